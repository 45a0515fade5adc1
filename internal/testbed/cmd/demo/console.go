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

// console is the guest's serial port, as a person at a terminal has it: what came is remembered, and read in order.
type console struct {
	keyboard io.Writer

	mu      sync.Mutex
	text    []byte        // guarded by mu: everything that came
	read    int           // guarded by mu: how much of it has been matched
	over    bool          // guarded by mu: no more will come
	changed chan struct{} // guarded by mu: closed and replaced when one of those changes
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

// end says that no more will come.
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

// expect waits for the pattern in what came after the last match, and returns what lies before it and its submatches.
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
			return "", nil, fmt.Errorf("the console ended while waiting for %q; it said: %s", pattern, last)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", nil, fmt.Errorf("waiting for %q at the console: %w; it says: %s", pattern, context.Cause(ctx), last)
		}
	}
}

// The shell's prompt; what a command that was typed says before it works, and after. The typed text itself, which the
// terminal echoes, does not match: there the words are put together by quotes.
var (
	prompt  = regexp.MustCompile(`/ # `)
	begun   = regexp.MustCompile(`\[begin\]\r\n`)
	stopped = regexp.MustCompile(`\[status (\d+)\]\r\n`)
)

// typed is the line that says [begin], runs the command and says [status N].
func typed(command string) string {
	return `echo "[be"gin]; ` + command + `; echo "[sta"tus $?]` + "\n"
}

// start types a command and waits until it begins: then everything that was typed and echoed is over, and the console is
// as silent as the command.
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

// finish waits for the end of the command and returns its output; a status other than 0 is an error.
func (c *console) finish(ctx context.Context) (string, error) {
	out, match, err := c.expect(ctx, stopped)
	if err != nil {
		return "", err
	}
	out = strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
	if status, err := strconv.Atoi(match[1]); err != nil || status != 0 {
		return out, fmt.Errorf("a command ended with status %s in the guest: %s", match[1], out)
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
