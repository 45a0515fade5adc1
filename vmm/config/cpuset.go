package config

import (
	"fmt"
	"slices"
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
		first, err := cpu(lo)
		if err != nil {
			return fmt.Errorf("CPU list %s: %w", quote(string(b)), err)
		}
		last := first
		if isRange {
			if last, err = cpu(hi); err != nil {
				return fmt.Errorf("CPU list %s: %w", quote(string(b)), err)
			}
		}
		if last < first {
			return fmt.Errorf("CPU list %s: range %s is reversed", quote(string(b)), quote(part))
		}
		for i := first; i <= last; i++ {
			in[i] = true
		}
	}
	var v CPUSet
	for i, on := range in {
		if on {
			v = append(v, i)
		}
	}
	*s = v
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

// Contains reports whether the CPU is in the set.
func (s CPUSet) Contains(cpu int) bool { return slices.Contains(s, cpu) }

// String returns the list, with consecutive CPUs written as ranges.
func (s CPUSet) String() string {
	var b strings.Builder
	for i := 0; i < len(s); {
		j := i
		for j+1 < len(s) && s[j+1] == s[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s[i]))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(s[j]))
		}
		i = j + 1
	}
	return b.String()
}

// MarshalText returns the form that UnmarshalText reads.
func (s CPUSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (CPUSet) sample() string { return "2-3,5" }
