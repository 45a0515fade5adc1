package vmmtest

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"minivmm/internal/testbed/testenv"
)

// Transcript records a console or another output. Any goroutine may write; only one may read.
type Transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	seen    int
	ended   bool
	changed chan struct{} // closed and replaced at each change
}

// NewTranscript returns an empty transcript.
func NewTranscript() *Transcript { return &Transcript{changed: make(chan struct{})} }

// Write records p. It never fails.
func (c *Transcript) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(p)
	c.announce()
	return len(p), nil
}

func (c *Transcript) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// End reports that nothing more will be written, which ends a wait.
func (c *Transcript) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.announce()
}

// String returns all text written so far.
func (c *Transcript) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// Expect waits until pattern appears, after the text that earlier calls matched, and returns the
// submatches. The wait ends if the guest reports a failure, and at End.
func (c *Transcript) Expect(pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	timeout := time.After(testenv.Patience)
	for {
		c.mu.Lock()
		fresh := c.text.Bytes()[c.seen:]
		changed, ended := c.changed, c.ended
		if at := re.FindSubmatchIndex(fresh); at != nil {
			var match []string
			for i := 0; i < len(at); i += 2 {
				match = append(match, string(fresh[at[i]:at[i+1]]))
			}
			c.seen += at[1]
			c.mu.Unlock()
			return match, nil
		}
		failed := bytes.Index(fresh, []byte(markFail))
		reason := ""
		if failed >= 0 {
			reason, _, _ = strings.Cut(string(fresh[failed:]), "\n")
		}
		c.mu.Unlock()
		switch {
		case failed >= 0 && strings.HasSuffix(reason, "\r"):
			return nil, fmt.Errorf("%s", strings.TrimSpace(reason))
		case ended:
			return nil, fmt.Errorf("the guest exited")
		}
		select {
		case <-changed:
		case <-timeout:
			return nil, fmt.Errorf("not within %v", testenv.Patience)
		}
	}
}

// Console text that Linux writes only if the machine is wrong.
var complaint = regexp.MustCompile(`ACPI (BIOS )?(Error|Exception|Warning)|BIOS bug|Firmware (Bug|Warn)|nobody cared|WARNING: CPU|BUG:|Kernel panic`)

// hostsFault is a complaint that the emulated host causes and that no machine in it can avoid:
// QEMU's TCG lets a guest execute XSETBV without the exit that KVM asked for, so KVM answers CPUID
// leaf 0xd for an outdated XCR0.
var hostsFault = regexp.MustCompile(`WARNING: CPU: \d+ PID: \d+ at arch/x86/kernel/fpu/xstate.c`)

// Complaints lists the lines in which Linux complains about its machine.
func (c *Transcript) Complaints() []string {
	var lines []string
	for line := range strings.Lines(c.String()) {
		if complaint.MatchString(line) && !hostsFault.MatchString(line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
