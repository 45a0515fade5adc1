package main

import "testing"

func TestEscapesAreFoundAcrossReads(t *testing.T) {
	for _, tt := range []struct{ typed, guest, commands string }{
		{"ls\r", "ls\r", ""},
		{"\x01x", "", "x"},
		{"a\x01hb", "ab", "h"},
		{"\x01\x01", "\x01", ""},
		{"\x01\x01x", "\x01x", ""},
		{"\x01\x01\x01x", "\x01", "x"},
		{"\x01a", "\x01a", ""}, // a shell's beginning-of-line
		{"\x01", "", ""},
		{"\x01X\x03", "\x01X\x03", ""},
		{"\x01h\x01h", "", "hh"},
	} {
		for cut := 0; cut <= len(tt.typed); cut++ {
			var e escaper
			var commands string
			note := func(k byte) { commands += string(k) }
			guest := e.filter(nil, []byte(tt.typed[:cut]), note)
			guest = e.filter(guest, []byte(tt.typed[cut:]), note)
			if string(guest) != tt.guest || commands != tt.commands {
				t.Errorf("%q cut at %d: the guest got %q and the commands were %q; want %q and %q", tt.typed, cut, guest, commands, tt.guest, tt.commands)
			}
		}
	}
}
