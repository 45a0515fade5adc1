package main

import (
	"encoding/binary"
	"testing"
)

func TestFileSystemsAreKnownByTheirSuperblocks(t *testing.T) {
	const uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
	id := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	for want, fill := range map[superblock]func(b []byte){
		{"ext4", "debian", uuid}: func(b []byte) {
			binary.LittleEndian.PutUint16(b[1024+0x38:], 0xef53)
			copy(b[1024+0x68:], id)
			copy(b[1024+0x78:], "debian")
		},
		{"erofs", "sixteen-letters!", uuid}: func(b []byte) {
			binary.LittleEndian.PutUint32(b[1024:], 0xe0f5e1e2)
			copy(b[1024+0x30:], id)
			copy(b[1024+0x40:], "sixteen-letters!next field")
		},
		{"xfs", "x", uuid}: func(b []byte) {
			copy(b, "XFSB")
			copy(b[32:], id)
			copy(b[108:], "x")
		},
		{fsType: "squashfs"}: func(b []byte) { copy(b, "hsqs") },
		{}:                   func([]byte) {},
	} {
		head := make([]byte, headSize)
		fill(head)
		if got := parseSuperblock(head); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestRootOnTheKernelCommandLine(t *testing.T) {
	for line, want := range map[string]rootWords{
		"quiet":                       {writable: true},
		"root=/dev/sda":               {device: "/dev/sda", writable: true},
		"root=LABEL=a ro":             {device: "LABEL=a"},
		"root=UUID=1 ro rw init=/x":   {device: "UUID=1", writable: true, init: "/x"},
		"root=/dev/sda rootflags=a,b": {device: "/dev/sda", data: "a,b", writable: true},
		"root=/dev/sda rootfstype=xfs minivmm.root=overlay ro": {device: "/dev/sda", fsType: "xfs", overlay: true},
	} {
		if got := splitWords(line).root(); got != want {
			t.Errorf("%s: got %+v, want %+v", line, got, want)
		}
	}
}
