package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// console is the guest's serial port, as a person at a terminal uses it: it records the output and
// reads it in order.
type console struct {
	keyboard io.Writer

	mu      sync.Mutex
	text    []byte        // guarded by mu: all output so far
	read    int           // guarded by mu: how much of it has been matched
	over    bool          // guarded by mu: the output has ended
	changed chan struct{} // guarded by mu: closed and replaced when one of the others changes
}

func newConsole(keyboard io.Writer) *console {
	return &console{keyboard: keyboard, changed: make(chan struct{})}
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	c.announce()
	return len(p), nil
}

// end reports the end of the output.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.announce()
}

func (c *console) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// expect waits for the pattern in the output after the last match. It returns the text before the
// match, and the submatches.
func (c *console) expect(ctx context.Context, pattern *regexp.Regexp) (before string, match []string, err error) {
	for {
		c.mu.Lock()
		fresh := c.text[c.read:]
		if at := pattern.FindSubmatchIndex(fresh); at != nil {
			for i := 0; i < len(at); i += 2 {
				match = append(match, string(fresh[at[i]:at[i+1]]))
			}
			before = string(fresh[:at[0]])
			c.read += at[1]
			c.mu.Unlock()
			return before, match, nil
		}
		changed, over, last := c.changed, c.over, string(fresh[max(0, len(fresh)-2000):])
		c.mu.Unlock()
		if over {
			return "", nil, fmt.Errorf("the console closed while waiting for %q; its last output: %s", pattern, last)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", nil, fmt.Errorf("waiting for %q at the console: %w; its last output: %s", pattern, context.Cause(ctx), last)
		}
	}
}

// The shell's prompt, and the marks that a typed command prints before and after it runs. The echo
// of the typed text does not match, because quotes split the marks in it.
var (
	prompt  = regexp.MustCompile(`/ # `)
	begun   = regexp.MustCompile(`\[begin\]\r\n`)
	stopped = regexp.MustCompile(`\[status (\d+)\]\r\n`)
)

// typed returns a line that prints [begin], runs the command and prints [status N].
func typed(command string) string {
	return `echo "[be"gin]; ` + command + `; echo "[sta"tus $?]` + "\n"
}

// start types a command and waits until it begins. By then everything that was typed has been
// echoed, and the console stays silent unless the command prints.
func (c *console) start(ctx context.Context, command string) error {
	if _, _, err := c.expect(ctx, prompt); err != nil {
		return err
	}
	if _, err := io.WriteString(c.keyboard, typed(command)); err != nil {
		return fmt.Errorf("typing: %w", err)
	}
	_, _, err := c.expect(ctx, begun)
	return err
}

// finish waits until the command has exited and returns its output; a status other than 0 is an
// error.
func (c *console) finish(ctx context.Context) (string, error) {
	out, match, err := c.expect(ctx, stopped)
	if err != nil {
		return "", err
	}
	out = strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
	if status, err := strconv.Atoi(match[1]); err != nil || status != 0 {
		return out, fmt.Errorf("a command exited with status %s in the guest: %s", match[1], out)
	}
	return out, nil
}

// run types a command and returns its output.
func (c *console) run(ctx context.Context, command string) (string, error) {
	if err := c.start(ctx, command); err != nil {
		return "", err
	}
	out, err := c.finish(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	return out, nil
}
