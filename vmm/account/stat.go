package account

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"minivmm/internal/procfs"
)

var errFormat = errors.New("unexpected format")

// parseSchedstat parses /proc/PID/schedstat: nanoseconds on a CPU, nanoseconds waiting for one, and
// how often the thread ran.
func parseSchedstat(s string) (run, wait uint64, err error) {
	f := strings.Fields(s)
	if len(f) < 2 {
		return 0, 0, errFormat
	}
	run, err1 := strconv.ParseUint(f[0], 10, 64)
	wait, err2 := strconv.ParseUint(f[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	return run, wait, nil
}

// numberField is procfs.Field for a number, which may be followed by a unit; 0 if it is missing.
func numberField(text, name string) uint64 {
	digits, _, _ := strings.Cut(procfs.Field(text, name), " ")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}
