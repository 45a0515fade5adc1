package config

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as a whole number and a unit: "512M". K, M, G and T are powers
// of 1024. A number without a unit is rejected, because some tools read it as bytes and others as
// MiB.
type Size uint64

const sizeUnits = "KMGT"

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	digits := strings.TrimRight(text, "KMGTBbikmgt")
	unit := text[len(digits):]
	n, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf(`%s is not a size: write a whole number and a unit (K, M, G or T), like "512M"`, quote(text))
	case unit == "":
		return fmt.Errorf(`size %s has no unit: write "%dM" for MiB, or "%dK", "%dG"`, quote(text), n, n, n)
	}
	i := strings.IndexByte(sizeUnits, unit[0])
	if len(unit) != 1 || i < 0 {
		if i = strings.IndexByte(sizeUnits, strings.ToUpper(unit)[0]); i < 0 {
			return fmt.Errorf(`size %s has an unknown unit: write K, M, G or T (powers of 1024), like "512M"`, quote(text))
		}
		return fmt.Errorf(`size %s has an unknown unit: write "%d%c" (K, M, G and T are powers of 1024)`, quote(text), n, sizeUnits[i])
	}
	shift := uint(10 * (i + 1))
	if bits.Len64(n)+int(shift) > 63 {
		return fmt.Errorf("size %s is too large: at most %s", quote(text), Size(math.MaxInt64>>40<<40))
	}
	*s = Size(n << shift)
	return nil
}

// String returns the size in the largest unit that gives a whole number. A size that is not a
// multiple of 1K is written without a unit, and UnmarshalText rejects it.
func (s Size) String() string {
	for i := len(sizeUnits) - 1; i >= 0; i-- {
		if unit := Size(1) << (10 * (i + 1)); s >= unit && s%unit == 0 {
			return strconv.FormatUint(uint64(s/unit), 10) + sizeUnits[i:i+1]
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}

// MarshalText returns the form that UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Duration is a length of time in the format of time.ParseDuration: "10s", "1m30s", "500ms".
type Duration struct{ time.Duration }

// UnmarshalText reads a duration; it must not be negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf(`%s is not a duration: write a number and a unit (us, ms, s, m or h), like "10s"`, quote(string(b)))
	}
	if v < 0 {
		return fmt.Errorf("duration %s is negative", quote(string(b)))
	}
	d.Duration = v
	return nil
}

// MarshalText returns the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
