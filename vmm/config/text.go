package config

import (
	"fmt"
	"strings"
)

// Name is the name of a machine or a device: 1 to 32 characters from a-z, 0-9 and '-', without '-'
// at the start. Names become parts of file names, interface names and names of kernel objects.
type Name string

const maxName = 32

// UnmarshalText sets n to the name in b, which must be valid.
func (n *Name) UnmarshalText(b []byte) error {
	if !isName(string(b)) {
		return fmt.Errorf("%s is not a valid name: use 1 to %d characters from a-z, 0-9 and '-', without '-' at the start", quote(string(b)), maxName)
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

// Serial is a disk's unit serial number: 1 to 36 printable ASCII characters, with no space at
// either end, because SPC pads serial numbers with spaces.
type Serial string

const maxSerial = 36 // tools in the guest show this many characters in full

// UnmarshalText sets s to the serial number in b, which must be valid.
func (s *Serial) UnmarshalText(b []byte) error {
	switch n := len(b); {
	case n == 0:
		return fmt.Errorf("serial is empty: remove it to get one derived from the name")
	case n > maxSerial:
		return fmt.Errorf("serial %s is %d characters long: at most %d", quote(string(b)), n, maxSerial)
	case !isPrintable(b):
		return fmt.Errorf("serial %s may contain only printable ASCII characters", quote(string(b)))
	case b[0] == ' ' || b[n-1] == ' ':
		return fmt.Errorf("serial %s starts or ends with a space", quote(string(b)))
	}
	*s = Serial(b)
	return nil
}

// digits returns the part of the serial from which LIO and minivmm's own target derive a disk's NAA
// name: its first 25 hexadecimal digits, without trailing zeros because the name is padded with
// zeros (spc_gen_naa_6h_vendor_specific, drivers/target/target_core_spc.c). A guest treats two
// disks with the same NAA name as two paths to one disk.
func (s Serial) digits() string {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'f' {
			return r
		}
		return -1
	}, strings.ToLower(string(s)))
	return strings.TrimRight(digits[:min(len(digits), 25)], "0")
}

// Cmdline holds parameters for the kernel's command line. It may be empty and consists of at most
// 2047 printable ASCII characters.
type Cmdline string

const maxCmdline = 2047 // COMMAND_LINE_SIZE of x86 is 2048 with the final NUL

// UnmarshalText sets c to the parameters in b, which must be valid.
func (c *Cmdline) UnmarshalText(b []byte) error {
	if len(b) > maxCmdline {
		return fmt.Errorf("%d bytes are too long: the kernel accepts at most %d", len(b), maxCmdline)
	}
	if !isPrintable(b) {
		return fmt.Errorf("%s may contain only printable ASCII characters", quote(string(b)))
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
