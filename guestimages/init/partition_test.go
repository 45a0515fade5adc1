package main

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unicode/utf16"
)

// gptDisk returns the start of a disk with partitions called a and bä, whose GUIDs start with their
// numbers.
func gptDisk(sector, entrySize int) []byte {
	le := binary.LittleEndian
	b := make([]byte, 40*sector)
	b[510], b[511] = 0x55, 0xaa
	head := b[sector:]
	copy(head, "EFI PART")
	le.PutUint64(head[72:], 3)
	le.PutUint32(head[80:], 2)
	le.PutUint32(head[84:], uint32(entrySize))
	for i, name := range []string{"a", "bä"} {
		entry := b[3*sector+i*entrySize:]
		copy(entry[16:], []byte{byte(i + 1), 0, 0, 0, 0x22, 0x11, 0x44, 0x33, 0x55, 0x66, 1, 2, 3, 4, 5, 6})
		for at, c := range utf16.Encode([]rune(name)) {
			le.PutUint16(entry[56+2*at:], c)
		}
	}
	return b
}

func TestPartitionsAreKnownByTheirTables(t *testing.T) {
	mbr := make([]byte, 1024)
	copy(mbr[440:], []byte{0x78, 0x56, 0x34, 0x12})
	mbr[510], mbr[511] = 0x55, 0xaa
	far := gptDisk(512, 128)
	binary.LittleEndian.PutUint64(far[512+72:], 1<<63)
	huge := gptDisk(512, 128)
	binary.LittleEndian.PutUint32(huge[512+84:], 1<<31)
	for _, tt := range []struct {
		name   string
		disk   []byte
		sector int
		n      int
		want   partition
	}{
		{"GPT", gptDisk(512, 128), 512, 1, partition{"00000001-1122-3344-5566-010203040506", "a"}},
		{"GPT with large blocks and entries", gptDisk(4096, 256), 4096, 2, partition{"00000002-1122-3344-5566-010203040506", "bä"}},
		{"an entry that GPT does not have", gptDisk(512, 128), 512, 3, partition{}},
		{"a GPT beyond the disk", far, 512, 1, partition{}},
		{"entries of GPT beyond the disk", huge, 512, 2, partition{}},
		{"MBR", mbr, 512, 1, partition{uuid: "12345678-01"}},
		{"a logical partition of MBR", mbr, 512, 11, partition{uuid: "12345678-0b"}},
		{"no table", make([]byte, 1024), 512, 1, partition{}},
		{"a short disk", mbr[:512], 512, 1, partition{}},
	} {
		if got := parsePartition(bytes.NewReader(tt.disk), tt.sector, tt.n); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
