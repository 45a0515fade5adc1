package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// superblock holds what a file system's superblock says about the file system's identity.
type superblock struct {
	fsType string // as mount(2) expects it; "" for an unknown file system
	label  string
	uuid   string
}

// headSize covers everything that parseSuperblock reads: the magic numbers (the kernel's
// include/uapi/linux/magic.h), labels and UUIDs.
const headSize = 4096

// readSuperblock reads the beginning of a device.
func readSuperblock(device string) (superblock, error) {
	f, err := os.Open(device)
	if err != nil {
		return superblock{}, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return superblock{}, &os.PathError{Op: "read", Path: device, Err: err}
	}
	return parseSuperblock(head), nil
}

// parseSuperblock recognizes ext2 to ext4 (fs/ext4/ext4.h), EROFS (fs/erofs/erofs_fs.h), XFS
// (fs/xfs/libxfs/xfs_format.h) and SquashFS (fs/squashfs/squashfs_fs.h). For ext2 and ext3 the
// result is also ext4, because the ext4 driver mounts all three.
func parseSuperblock(head []byte) superblock {
	le := binary.LittleEndian
	sb := head[1024:]
	switch {
	case le.Uint16(sb[0x38:]) == 0xef53:
		return superblock{"ext4", text(sb[0x78:0x88]), formatUUID(sb[0x68:0x78])}
	case le.Uint32(sb) == 0xe0f5e1e2:
		return superblock{"erofs", text(sb[0x40:0x50]), formatUUID(sb[0x30:0x40])}
	case bytes.HasPrefix(head, []byte("XFSB")):
		return superblock{"xfs", text(head[108:120]), formatUUID(head[32:48])}
	case le.Uint32(head) == 0x73717368:
		return superblock{fsType: "squashfs"}
	}
	return superblock{}
}

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func formatUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
