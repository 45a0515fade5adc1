package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is a line of "go test -json", as "go doc test2json" and "go help buildjson" tell.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// test2json's and the build's actions that count here.
const (
	passed      = "pass"
	failed      = "fail"
	skipped     = "skip"
	output      = "output"
	buildOutput = "build-output"
)

// name is a test or subtest; of a package as a whole, Test is empty.
type name struct{ Package, Test string }

// counts are of tests and subtests.
type counts struct{ passed, failed, skipped int }

func (c *counts) add(action string) {
	switch action {
	case passed:
		c.passed++
	case failed:
		c.failed++
	case skipped:
		c.skipped++
	}
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// covered is one stage's part.
type covered struct {
	stage  string
	counts counts
	deaths []string // hosts that died, one line each
}

// summary prints packages as they end, what failed in full, and in the end what all stages covered.
type summary struct {
	w       io.Writer
	stages  []*covered
	outcome map[name]string   // over all stages: failed anywhere, or else passed anywhere, or else skipped
	said    map[name][]string // output of what has not ended yet
}

func newSummary(w io.Writer) *summary {
	return &summary{w: w, outcome: map[name]string{}, said: map[name][]string{}}
}

func (s *summary) begin(stage string) { s.stages = append(s.stages, &covered{stage: stage}) }

// read reads the events of one go test.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// Not an event: a message of the go command.
			fmt.Fprintf(s.w, "%s\n", lines.Bytes())
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

// hostDeath is how emuhost says that the host ended before the tests did.
var hostDeath = regexp.MustCompile(`emulated host: (kernel panic|triple fault|QEMU|channel broken|time limit)[^;\n]*`)

func (s *summary) take(e event) {
	now := s.stages[len(s.stages)-1]
	n := name{e.Package, e.Test}
	switch e.Action {
	case output:
		s.said[n] = append(s.said[n], e.Output)
		if death := hostDeath.FindString(e.Output); death != "" {
			now.deaths = append(now.deaths, e.Package+": "+death)
		}
	case buildOutput:
		fmt.Fprint(s.w, e.Output)
	case passed, failed, skipped:
		said := strings.Join(s.said[n], "")
		delete(s.said, n)
		if e.Action == failed {
			s.w.Write([]byte(said))
		}
		if e.Test != "" {
			now.counts.add(e.Action)
			s.outcome[n] = worse(s.outcome[n], e.Action)
			return
		}
		s.endPackage(e)
	}
}

// endPackage prints a package's line, and what its unfinished tests said: those during which it died.
func (s *summary) endPackage(e event) {
	for _, n := range slices.SortedFunc(maps.Keys(s.said), func(a, b name) int { return strings.Compare(a.Test, b.Test) }) {
		if n.Package != e.Package {
			continue
		}
		if e.Action == failed {
			fmt.Fprint(s.w, strings.Join(s.said[n], ""))
			s.stages[len(s.stages)-1].counts.add(failed)
			s.outcome[n] = failed
		}
		delete(s.said, n)
	}
	switch e.Action {
	case passed:
		fmt.Fprintf(s.w, "ok    %s %.1fs\n", e.Package, e.Elapsed)
	case failed:
		fmt.Fprintf(s.w, "FAIL  %s %.1fs\n", e.Package, e.Elapsed)
		// A package can fail without a test of it, as when it does not build.
		s.outcome[name{e.Package, ""}] = failed
	}
}

// worse combines what a test did in two stages: to be skipped in one counts nothing if it ran in the other.
func worse(a, b string) string {
	for _, action := range []string{failed, passed} {
		if a == action || b == action {
			return action
		}
	}
	return b
}

// print says what was covered. A test of several stages counts once in the last line.
func (s *summary) print(took time.Duration) {
	fmt.Fprintf(s.w, "\n== covered, tests and subtests, in %v\n", took.Round(time.Second))
	for _, c := range s.stages {
		fmt.Fprintf(s.w, "%s: %v\n", c.stage, c.counts)
		for _, death := range c.deaths {
			fmt.Fprintf(s.w, "  THE HOST DIED: %s\n", death)
		}
	}
	var total counts
	var never, bad []string
	for n, action := range s.outcome {
		full := strings.TrimSuffix(n.Package+" "+n.Test, " ")
		switch action {
		case skipped:
			never = append(never, full)
		case failed:
			bad = append(bad, full)
		}
		if n.Test != "" || action == failed && !s.hasFailedTest(n.Package) {
			total.add(action)
		}
	}
	list(s.w, "skipped wherever it was tried", never)
	list(s.w, "FAILED", bad)
	fmt.Fprintf(s.w, "%v\n", total)
}

func (s *summary) hasFailedTest(pkg string) bool {
	for n, action := range s.outcome {
		if n.Package == pkg && n.Test != "" && action == failed {
			return true
		}
	}
	return false
}

func list(w io.Writer, what string, names []string) {
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(w, "%s: %s\n", what, n)
	}
}
