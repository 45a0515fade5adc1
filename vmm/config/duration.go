package config

import (
	"fmt"
	"time"
)

// Duration is a length of time in the format of time.ParseDuration: "10s", "1m30s", "500ms".
type Duration struct{ time.Duration }

// UnmarshalText reads a duration; it must not be negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf(`%s is not a duration: write a number and a unit (ms, s, m or h), like "10s"`, quote(string(b)))
	}
	if v < 0 {
		return fmt.Errorf("duration %s is negative", quote(string(b)))
	}
	d.Duration = v
	return nil
}

// MarshalText returns the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
