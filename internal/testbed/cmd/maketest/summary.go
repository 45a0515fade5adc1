package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
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

// summary is what all stages covered.
type summary struct {
	unlisted bool // what was skipped is counted, not listed

	mu      sync.Mutex
	w       io.Writer       // guarded by mu
	stages  []*covered      // guarded by mu
	outcome map[name]string // guarded by mu; over all stages: failed anywhere, or else passed anywhere, or else skipped
	timed   []timed         // guarded by mu
}

// timed is a test, not a subtest, and how long it took.
type timed struct {
	short   string // the stage
	name    name
	seconds float64
}

// slowestCount is how many of the slowest tests are named at the end.
const slowestCount = 10

func newSummary(w io.Writer) *summary { return &summary{w: w, outcome: map[name]string{}} }

// covered is one stage's part. It prints packages as they end, and what failed in full.
type covered struct {
	all    *summary
	stage  string // for the end
	short  string // for each line
	counts counts
	took   time.Duration     // guarded by all.mu
	deaths []string          // hosts that died, one line each
	again  []string          // hosts that died before their tests began and were started again
	said   map[name][]string // output of what has not ended yet
}

// begin adds a stage. Stages may run at the same time.
func (s *summary) begin(stage, short string) *covered {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "== %s: %s\n", short, stage)
	c := &covered{all: s, stage: stage, short: short, said: map[name][]string{}}
	s.stages = append(s.stages, c)
	return c
}

// read reads the events of one go test.
func (c *covered) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// Not an event: a message of the go command.
			e = event{Action: buildOutput, Output: lines.Text() + "\n"}
		}
		c.take(e)
	}
	return lines.Err()
}

// hostDeath is how emuhost says that the host ended before the tests did.
var hostDeath = regexp.MustCompile(`emulated host: (kernel panic|triple fault|QEMU|channel broken|time limit)[^;\n]*`)

// hostAgain is how it says that it starts a host again.
var hostAgain = regexp.MustCompile(`started again \(\d of \d\): emulated host: ([^;\n]*)`)

// ended notes how long the stage took.
func (c *covered) ended(took time.Duration) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.took = took
}

func (c *covered) take(e event) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	n := name{e.Package, e.Test}
	switch e.Action {
	case output:
		c.said[n] = append(c.said[n], e.Output)
		if again := hostAgain.FindStringSubmatch(e.Output); again != nil {
			c.again = append(c.again, e.Package+": "+again[1])
		} else if death := hostDeath.FindString(e.Output); death != "" {
			c.deaths = append(c.deaths, e.Package+": "+death)
		}
	case buildOutput:
		fmt.Fprint(c.all.w, e.Output)
	case passed, failed, skipped:
		said := strings.Join(c.said[n], "")
		delete(c.said, n)
		if e.Action == failed {
			fmt.Fprint(c.all.w, said)
		}
		if e.Test == "" {
			c.endPackage(e)
			return
		}
		c.note(n, e.Action)
		if !strings.Contains(e.Test, "/") {
			c.all.timed = append(c.all.timed, timed{c.short, n, e.Elapsed})
		}
	}
}

// note counts what became of a test.
func (c *covered) note(n name, action string) {
	c.counts.add(action)
	c.all.outcome[n] = worse(c.all.outcome[n], action)
}

// endPackage prints a package's line, and what its unfinished tests said: those during which it died.
func (c *covered) endPackage(e event) {
	for _, n := range slices.SortedFunc(maps.Keys(c.said), func(a, b name) int { return strings.Compare(a.Test, b.Test) }) {
		if n.Package != e.Package {
			continue
		}
		if e.Action == failed {
			fmt.Fprint(c.all.w, strings.Join(c.said[n], ""))
			c.note(n, failed)
		}
		delete(c.said, n)
	}
	switch e.Action {
	case passed:
		fmt.Fprintf(c.all.w, "ok    %s %s %.1fs\n", c.short, e.Package, e.Elapsed)
	case failed:
		fmt.Fprintf(c.all.w, "FAIL  %s %s %.1fs\n", c.short, e.Package, e.Elapsed)
		// A package can fail without a test of it, as when it does not build.
		c.all.outcome[name{e.Package, ""}] = failed
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
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "\n== covered, tests and subtests, in %v\n", took.Round(time.Second))
	for _, c := range s.stages {
		fmt.Fprintf(s.w, "%s: %v, in %v\n", c.stage, c.counts, c.took.Round(time.Second))
		for _, again := range c.again {
			fmt.Fprintf(s.w, "  the host was started again: %s\n", again)
		}
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
	slices.SortStableFunc(s.timed, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range s.timed[:min(slowestCount, len(s.timed))] {
		fmt.Fprintf(s.w, "slowest: %6.1fs %s %s %s\n", t.seconds, t.short, t.name.Package, t.name.Test)
	}
	if s.unlisted {
		never = nil
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
