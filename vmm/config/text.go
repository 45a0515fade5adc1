package config

import (
	"fmt"
	"strings"
)

// Name names a machine or a device: 1 to 32 of a-z, 0-9 and '-', not '-' first. Names become parts of file names, of
// interface names and of the kernel's objects.
type Name string

const maxName = 32

// UnmarshalText checks the name.
func (n *Name) UnmarshalText(b []byte) error {
	if !isName(string(b)) {
		return fmt.Errorf("%s is not a name: write 1 to %d of a-z, 0-9 and '-', not '-' first", quote(string(b)), maxName)
	}
	*n = Name(b)
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0) {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// Serial is a disk's unit serial number: 1 to 36 printable ASCII characters, no space at either end (SPC pads with spaces).
type Serial string

const maxSerial = 36 // what the guest's tools show whole

// UnmarshalText checks the serial number.
func (s *Serial) UnmarshalText(b []byte) error {
	switch n := len(b); {
	case n == 0:
		return fmt.Errorf("a serial is empty: leave it out for one made from the name")
	case n > maxSerial:
		return fmt.Errorf("serial %s is %d characters long: at most %d", quote(string(b)), n, maxSerial)
	case !isPrintable(b):
		return fmt.Errorf("serial %s may hold printable ASCII characters only", quote(string(b)))
	case b[0] == ' ' || b[n-1] == ' ':
		return fmt.Errorf("serial %s has a space at its end", quote(string(b)))
	}
	*s = Serial(b)
	return nil
}

// digits is what both targets make a disk's NAA name of: the hexadecimal digits of its serial, up to 25, filled up with zeros
// (spc_gen_naa_6h_vendor_specific, drivers/target/target_core_spc.c). Guests take two disks with one for one with two paths.
func (s Serial) digits() string {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'f' {
			return r
		}
		return -1
	}, strings.ToLower(string(s)))
	return strings.TrimRight(digits[:min(len(digits), 25)], "0")
}

// Cmdline is words for the kernel's command line: printable ASCII, at most 2047 bytes; it may be empty.
type Cmdline string

const maxCmdline = 2047 // COMMAND_LINE_SIZE of x86 is 2048 with the final NUL

// UnmarshalText checks the text.
func (c *Cmdline) UnmarshalText(b []byte) error {
	if len(b) > maxCmdline {
		return fmt.Errorf("it is %d bytes long: the kernel takes at most %d", len(b), maxCmdline)
	}
	if !isPrintable(b) {
		return fmt.Errorf("%s may hold printable ASCII characters only", quote(string(b)))
	}
	*c = Cmdline(b)
	return nil
}

func isPrintable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
