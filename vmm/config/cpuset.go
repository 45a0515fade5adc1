package config

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// CPUSet is a sorted set of host CPUs without duplicates, written in the kernel's list format:
// "2-3,5".
type CPUSet []int

// maxCPU is the highest CPU number that sched_setaffinity's fixed mask holds (CPU_SETSIZE is 1024).
const maxCPU = 1023

// UnmarshalText reads a list of at least one CPU.
func (s *CPUSet) UnmarshalText(b []byte) error {
	var in [maxCPU + 1]bool
	for part := range strings.SplitSeq(string(b), ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		first, err := cpu(lo)
		last, err2 := cpu(hi)
		if err := cmp.Or(err, err2); err != nil {
			return fmt.Errorf("CPU list %s: %w", quote(string(b)), err)
		}
		if last < first {
			return fmt.Errorf("CPU list %s: range %s is reversed", quote(string(b)), quote(part))
		}
		for i := first; i <= last; i++ {
			in[i] = true
		}
	}
	*s = nil
	for i, on := range in {
		if on {
			*s = append(*s, i)
		}
	}
	return nil
}

func cpu(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf(`%s is not a CPU number: write a list like "2-3,5"`, quote(s))
	}
	if n > maxCPU {
		return 0, fmt.Errorf("CPU %d is out of range: want 0 to %d", n, maxCPU)
	}
	return int(n), nil
}

// String returns the list, with consecutive CPUs written as ranges.
func (s CPUSet) String() string {
	var parts []string
	for i, j := 0, 0; i < len(s); i = j + 1 {
		for j = i; j+1 < len(s) && s[j+1] == s[j]+1; {
			j++
		}
		part := strconv.Itoa(s[i])
		if j > i {
			part += "-" + strconv.Itoa(s[j])
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// MarshalText returns the form that UnmarshalText reads.
func (s CPUSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
