package debian

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// logEvery is the interval between progress lines of a transfer.
const logEvery = time.Second

// transfer runs an apt-get command with the private options in the folder dir, and logs its
// progress to the cache's log. In the log, the argument what names the data that the command
// fetches.
func (a *Archive) transfer(ctx context.Context, dir, what string, args ...string) error {
	status, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	defer status.Close()
	defer theirs.Close()
	// ExtraFiles start at descriptor 3. apt's doc/progress-reporting.md describes the format.
	cmd := command(ctx, dir, "apt-get", append(a.private(args...), "-oAPT::Status-Fd=3"))
	cmd.ExtraFiles = []*os.File{theirs}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return toolError(ctx, cmd, err, "")
	}
	theirs.Close()
	last := time.Now()
	for sc := bufio.NewScanner(status); sc.Scan(); {
		percent, ok := parseStatus(sc.Text())
		if now := time.Now(); ok && now.Sub(last) >= logEvery {
			last = now
			a.cache.Logf("fetching %s: %.0f %%", what, percent)
		}
	}
	if err := cmd.Wait(); err != nil {
		return toolError(ctx, cmd, err, said.String())
	}
	return nil
}

// parseStatus parses a line like "dlstatus:1:42.5:Retrieving file 1 of 1 (3s remaining)".
func parseStatus(line string) (percent float64, ok bool) {
	words := strings.SplitN(line, ":", 4)
	if len(words) != 4 || words[0] != "dlstatus" {
		return 0, false
	}
	percent, err := strconv.ParseFloat(words[2], 64)
	return percent, err == nil && percent >= 0 && percent <= 100
}
