// Package transcript records a console or another output and waits for text in it.
package transcript

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
)

// Transcript is a recorded output. Any goroutine may write; only one may call Expect.
type Transcript struct {
	mu      sync.Mutex
	text    []byte
	seen    int // number of bytes in text up to the end of Expect's last match
	ended   bool
	changed chan struct{} // closed and replaced at each change
}

// New returns an empty transcript.
func New() *Transcript { return &Transcript{changed: make(chan struct{})} }

// Write records p. It never fails.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.announce()
	return len(p), nil
}

// End reports that nothing more will be written. A waiting Expect then fails.
func (t *Transcript) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.announce()
}

func (t *Transcript) announce() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// String returns all text written so far.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// Expect waits until the pattern matches text that follows the match of the previous call. It
// returns the text before the match, and the submatches. The wait fails when End is called or ctx
// is done.
func (t *Transcript) Expect(ctx context.Context, pattern *regexp.Regexp) (before string, match []string, err error) {
	for {
		t.mu.Lock()
		fresh := t.text[t.seen:]
		changed, ended := t.changed, t.ended
		if at := pattern.FindIndex(fresh); at != nil {
			match = pattern.FindStringSubmatch(string(fresh))
			before = string(fresh[:at[0]])
			t.seen += at[1]
			t.mu.Unlock()
			return before, match, nil
		}
		last := string(fresh[max(0, len(fresh)-2000):])
		t.mu.Unlock()
		if ended {
			err = errors.New("the output ended")
		} else {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		return "", nil, fmt.Errorf("%w; the last output: %s", err, last)
	}
}
