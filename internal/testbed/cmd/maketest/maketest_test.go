package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The output of go test -json in two stages. In the first, A passes, B fails with a message, C is
// skipped, and package y does not build. In the second, C and B pass, and the host dies during D,
// which therefore never finishes.
const first = `{"Action":"start","Package":"x"}
{"Action":"run","Package":"x","Test":"A"}
{"Action":"output","Package":"x","Test":"A","Output":"quiet\n"}
{"Action":"pass","Package":"x","Test":"A","Elapsed":1}
{"Action":"output","Package":"x","Test":"B","Output":"why B failed\n"}
{"Action":"fail","Package":"x","Test":"B","Elapsed":1}
{"Action":"output","Package":"x","Test":"C","Output":"needs more\n"}
{"Action":"skip","Package":"x","Test":"C","Elapsed":1}
{"Action":"skip","Package":"x","Test":"Never","Elapsed":1}
{"Action":"output","Package":"x","Output":"FAIL\n"}
{"Action":"fail","Package":"x","Elapsed":2.5}
not an event
{"ImportPath":"y","Action":"build-output","Output":"y.go:1: syntax error\n"}
{"Action":"output","Package":"y","Output":"FAIL y [build failed]\n"}
{"Action":"fail","Package":"y","Elapsed":0,"FailedBuild":"y"}
{"Action":"skip","Package":"z","Elapsed":0}
`

const second = `{"Action":"pass","Package":"x","Test":"C","Elapsed":1}
{"Action":"output","Package":"x","Output":"emuhost: the host died before its command started; restarting it (1 of 2): emulated host: triple fault; its kernel log ends with:\n"}
{"Action":"pass","Package":"x","Test":"B","Elapsed":12.34}
{"Action":"pass","Package":"x","Test":"B/sub","Elapsed":12.33}
{"Action":"output","Package":"x","Test":"D","Output":"=== RUN D\n"}
{"Action":"output","Package":"x","Test":"D","Output":"emuhost: emulated host: kernel panic; its kernel log ends with:\n"}
{"Action":"output","Package":"x","Test":"D","Output":"[ 1.0] Oops\n"}
{"Action":"fail","Package":"x","Elapsed":2.5}
`

func TestSummaryCountsEachTestOnceAndListsDeadHosts(t *testing.T) {
	var out bytes.Buffer
	s := newSummary(&out)
	for i, text := range []string{first, second} {
		c := s.begin([]string{"stage one", "stage two"}[i], "[short]")
		if err := c.read(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	s.stages[0].ended(70 * time.Second)
	s.print(90 * time.Second)
	for _, want := range []string{
		"why B failed\n", "not an event\n", "y.go:1: syntax error\n", "FAIL y [build failed]\n", "FAIL  [short] x 2.5s\n",
		"[ 1.0] Oops\n",
		"in 1m30s\n", "stage one: 1 passed, 1 failed, 2 skipped, in 1m10s\n", "stage two: 3 passed, 1 failed, 0 skipped, in 0s\n",
		"the host was restarted: x: triple fault\n", "slowest:   12.3s [short] x B\nslowest:    1.0s [short] x A\n",
		"THE HOST DIED: x: emulated host: kernel panic\n",
		"skipped in every stage: x Never\n", "FAILED: x B\n", "FAILED: x D\n", "FAILED: y\n",
		// A, B/sub and C; B, D and the package y; Never.
		"\n3 passed, 3 failed, 1 skipped\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, &out)
		}
	}
	for _, no := range []string{"quiet", "needs more", "ok ", "DIED: x: emulated host: triple fault", "x B/sub"} {
		if strings.Contains(out.String(), no) {
			t.Errorf("output must not contain %q:\n%s", no, &out)
		}
	}
}

func TestTrialsAreCounted(t *testing.T) {
	var running, most, calls int
	var mu sync.Mutex
	change := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		running += by
		most = max(most, running)
	}
	good := func(context.Context) error {
		change(1)
		defer change(-1)
		time.Sleep(time.Millisecond)
		return nil
	}
	bad := func(context.Context) error { return errors.New("kernel panic") }
	var out bytes.Buffer
	err := try(t.Context(), &out, "guests", []trial{{3, good}, {3, bad}, {3, good}, {2, good}, {3, good}}, 2)
	if err == nil || !strings.Contains(out.String(), "guests: host 2: kernel panic\n11 of 14 guests worked; ") || most > 2 {
		t.Errorf("got %v, %d at a time, output %q", err, most, &out)
	}
	// A trial that an interrupt stops is not counted.
	ctx, cancel := context.WithCancel(t.Context())
	out.Reset()
	interrupt := func(context.Context) error {
		if calls++; calls == 3 {
			cancel()
		}
		return ctx.Err()
	}
	err = try(ctx, &out, "starts", slices.Repeat([]trial{{1, interrupt}}, 9), 1)
	if err != nil || calls != 3 || !strings.HasPrefix(out.String(), "2 of 2 starts worked; ") {
		t.Errorf("got %v after %d starts, output %q", err, calls, &out)
	}
}
