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

// event is a line of "go test -json". "go doc test2json" and "go help buildjson" describe it.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// The actions of test2json and of the build output that the summary evaluates.
const (
	passed      = "pass"
	failed      = "fail"
	skipped     = "skip"
	output      = "output"
	buildOutput = "build-output"
)

// severity lists the outcomes of a test by increasing severity. If stages differ, the most severe
// outcome counts, so a skip does not count if the test ran in another stage.
var severity = []string{"", skipped, passed, failed}

// name identifies a test or subtest. For a package as a whole, Test is empty.
type name struct{ Package, Test string }

// counts counts tests and subtests by their outcome.
type counts map[string]int

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c[passed], c[failed], c[skipped])
}

// summary collects the results of all stages. It is safe for concurrent use.
type summary struct {
	unlisted bool // skipped tests are counted but not listed

	mu      sync.Mutex
	w       io.Writer       // guarded by mu
	stages  []*covered      // guarded by mu
	outcome map[name]string // guarded by mu; the most severe outcome of all stages
	timed   []timed         // guarded by mu
}

// timed is the duration of a test, not of a subtest.
type timed struct {
	short   string // the stage
	name    name
	seconds float64
}

// slowestCount is the number of slowest tests that the summary lists.
const slowestCount = 10

func newSummary(w io.Writer) *summary { return &summary{w: w, outcome: map[name]string{}} }

// covered is one stage's part of the summary. It prints each package as it finishes, and the full
// output of failed tests.
type covered struct {
	all    *summary
	stage  string // for the summary
	short  string // for each line of output
	counts counts
	took   time.Duration     // guarded by all.mu
	deaths []string          // hosts that died, one line each
	again  []string          // hosts that died before their tests started and were restarted
	said   map[name][]string // output of tests and packages that have not finished yet
}

// begin adds a stage. Stages may run in parallel.
func (s *summary) begin(stage, short string) *covered {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "== %s: %s\n", short, stage)
	c := &covered{all: s, stage: stage, short: short, counts: counts{}, said: map[name][]string{}}
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
			// A line that is not an event is a message of the go command.
			e = event{Action: buildOutput, Output: lines.Text() + "\n"}
		}
		c.take(e)
	}
	return lines.Err()
}

// hostDeath matches emuhost's message that the host died during the tests.
var hostDeath = regexp.MustCompile(`emulated host: (kernel panic|triple fault|QEMU|channel broken|time limit)[^;\n]*`)

// hostAgain matches emuhost's message that it restarts a host.
var hostAgain = regexp.MustCompile(`restarting it \(\d of \d\): emulated host: ([^;\n]*)`)

// ended records the duration of the stage.
func (c *covered) ended(took time.Duration) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.took = took
}

// take processes one event.
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

// note counts the outcome of a test.
func (c *covered) note(n name, action string) {
	c.counts[action]++
	if slices.Index(severity, action) > slices.Index(severity, c.all.outcome[n]) {
		c.all.outcome[n] = action
	}
}

// endPackage prints a package's result. If the package failed, endPackage also prints the output of
// the tests that were running when the package died, and counts these tests as failed.
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
		// A package can fail without a failed test, for example if it does not build.
		c.all.outcome[name{e.Package, ""}] = failed
	}
}

// print prints the summary. The last line counts a test once, even if several stages ran it.
func (s *summary) print(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "\n== summary of tests and subtests, in %v\n", took.Round(time.Second))
	for _, c := range s.stages {
		fmt.Fprintf(s.w, "%s: %v, in %v\n", c.stage, c.counts, c.took.Round(time.Second))
		for _, again := range c.again {
			fmt.Fprintf(s.w, "  the host was restarted: %s\n", again)
		}
		for _, death := range c.deaths {
			fmt.Fprintf(s.w, "  THE HOST DIED: %s\n", death)
		}
	}
	total, lists := counts{}, map[string][]string{}
	for n, action := range s.outcome {
		lists[action] = append(lists[action], strings.TrimSuffix(n.Package+" "+n.Test, " "))
		if n.Test != "" || action == failed && !s.hasFailedTest(n.Package) {
			total[action]++
		}
	}
	slices.SortStableFunc(s.timed, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range s.timed[:min(slowestCount, len(s.timed))] {
		fmt.Fprintf(s.w, "slowest: %6.1fs %s %s %s\n", t.seconds, t.short, t.name.Package, t.name.Test)
	}
	if !s.unlisted {
		list(s.w, "skipped in every stage", lists[skipped])
	}
	list(s.w, "FAILED", lists[failed])
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
