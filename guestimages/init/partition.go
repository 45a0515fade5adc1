package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// partition is one partition as the disk's partition table describes it.
type partition struct {
	uuid  string // PARTUUID=, as the kernel writes it: a GUID for GPT; for MBR the disk's signature and the partition number, as in "12345678-01"
	label string // PARTLABEL=, GPT only
}

// readPartition returns the partition table's entry for the given partition. name is the
// partition's name in sysfs. The result is the zero value for a whole disk, or if the table cannot
// be read.
func readPartition(name string) partition {
	n, _ := strconv.Atoi(readWord("/sys/class/block/" + name + "/partition"))
	dir, err := filepath.EvalSymlinks("/sys/class/block/" + name) // .../block/sda/sda1
	if err != nil || n == 0 {
		return partition{}
	}
	disk := filepath.Base(filepath.Dir(dir))
	sector, _ := strconv.Atoi(readWord("/sys/class/block/" + disk + "/queue/logical_block_size"))
	if sector < 512 {
		return partition{}
	}
	f, err := os.Open("/dev/" + disk)
	if err != nil {
		return partition{}
	}
	defer f.Close()
	return parsePartition(f, sector, n)
}

// parsePartition parses entry n of the disk's GPT (UEFI specification, section 5.3), or of the MBR
// if the disk has no GPT. The first entry is 1. The kernel has already checked the table. sector is
// the disk's block size in bytes.
func parsePartition(disk io.ReaderAt, sector, n int) partition {
	le := binary.LittleEndian
	head := make([]byte, 2*sector)
	if _, err := disk.ReadAt(head, 0); err != nil || n < 1 {
		return partition{}
	}
	gpt := head[sector:]
	if !bytes.HasPrefix(gpt, []byte("EFI PART")) {
		if head[510] != 0x55 || head[511] != 0xaa {
			return partition{}
		}
		return partition{uuid: fmt.Sprintf("%08x-%02x", le.Uint32(head[440:]), n)}
	}
	table, count, size := le.Uint64(gpt[72:]), le.Uint32(gpt[80:]), le.Uint32(gpt[84:])
	if uint64(n) > uint64(count) || table > 1<<48 {
		return partition{}
	}
	entry := make([]byte, 128)
	if _, err := disk.ReadAt(entry, int64(table)*int64(sector)+int64(n-1)*int64(size)); err != nil {
		return partition{}
	}
	// The first three fields of a GUID are little endian.
	u := entry[16:32]
	var name []uint16
	for b := range slices.Chunk(entry[56:], 2) {
		name = append(name, le.Uint16(b))
	}
	label, _, _ := strings.Cut(string(utf16.Decode(name)), "\x00")
	return partition{
		uuid:  fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(u), le.Uint16(u[4:]), le.Uint16(u[6:]), u[8:10], u[10:]),
		label: label,
	}
}
