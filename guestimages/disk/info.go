package disk

import (
	"encoding/binary"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
)

// Info describes an image file.
type Info struct {
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	UsedBytes int64  `json:"used_bytes"`           // allocated by the host's file system
	FS        string `json:"fs"`                   // detected from the first bytes: a file system, "partitions", another image format, or "" if unknown
	FSBytes   int64  `json:"fs_bytes,omitempty"`   // size of the file system, for ext2, ext3, ext4 and erofs
	FreeBytes int64  `json:"free_bytes,omitempty"` // free space in the file system, for ext2, ext3 and ext4
	Label     string `json:"label,omitempty"`
	UUID      string `json:"uuid,omitempty"`
	InUseBy   string `json:"in_use_by,omitempty"` // the process that holds the image's lock

	blockBytes int64 // block size, for ext2, ext3 and ext4
}

// magics identify file systems and image formats by bytes at an offset (util-linux' libblkid).
var magics = []struct {
	off   int
	magic string
	fs    string
}{
	{0, "QFI\xfb", "qcow2"},
	{0, "XFSB", "xfs"},
	{0, "hsqs", "squashfs"},
	{0, "LUKS\xba\xbe", "luks"},
	{512, "EFI PART", "partitions"},
	{1024 + ext4Magic, "\x53\xef", "ext4"}, // or ext2 or ext3: see Info.ext
	{1024, "\xe2\xe1\xf5\xe0", "erofs"},
	{4086, "SWAPSPACE2", "swap"},
	{0x10040, "_BHRfS_M", "btrfs"},
	{510, "\x55\xaa", "partitions"}, // also FAT; must be the last entry, because boot code with this mark may precede any other format
}

// Offsets in struct ext4_super_block (fs/ext4/ext4.h), which is at byte 1024 of an ext2, ext3 or
// ext4 file system, and flags in the feature fields of that struct.
const (
	ext4Blocks     = 0x4
	ext4Free       = 0xc
	ext4LogBlock   = 0x18
	ext4Magic      = 0x38
	ext4Compat     = 0x5c
	ext4Incompat   = 0x60
	ext4UUID       = 0x68
	ext4Name       = 0x78
	ext4BlocksHigh = 0x150
	ext4FreeHigh   = 0x158

	compatJournal   = 0x4  // EXT4_FEATURE_COMPAT_HAS_JOURNAL
	incompatExtents = 0x40 // EXT4_FEATURE_INCOMPAT_EXTENTS
	incompat64      = 0x80 // EXT4_FEATURE_INCOMPAT_64BIT
)

var le = binary.LittleEndian

// Inspect describes the image at path. It neither locks nor changes the image.
func Inspect(path string) (Info, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	return inspect(f)
}

func inspect(f *os.File) (Info, error) {
	info := Info{Path: f.Name()}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return info, &os.PathError{Op: "fstat", Path: info.Path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return info, inputErrorf("%s: not a regular file", info.Path)
	}
	info.SizeBytes, info.UsedBytes = st.Size, st.Blocks*512
	info.InUseBy, _ = flock.Holder(&st)
	head := make([]byte, 128<<10)
	if n, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return info, err
	} else {
		clear(head[n:])
	}
	for _, m := range magics {
		if string(head[m.off:m.off+len(m.magic)]) == m.magic {
			info.FS = m.fs
			break
		}
	}
	super := head[1024:]
	switch info.FS {
	case "ext4":
		info.ext(super)
	case "erofs":
		// struct erofs_super_block (fs/erofs/erofs_fs.h): blocks, blkszbits, uuid, volume_name
		info.FSBytes = int64(le.Uint32(super[36:])) << (super[12] & 31)
		info.UUID, info.Label = uuidText(super[48:]), cString(super[64:80])
	}
	return info, nil
}

func (i *Info) ext(super []byte) {
	incompat := le.Uint32(super[ext4Incompat:])
	blocks, free := uint64(le.Uint32(super[ext4Blocks:])), uint64(le.Uint32(super[ext4Free:]))
	if incompat&incompat64 != 0 {
		blocks |= uint64(le.Uint32(super[ext4BlocksHigh:])) << 32
		free |= uint64(le.Uint32(super[ext4FreeHigh:])) << 32
	}
	size := 10 + le.Uint32(super[ext4LogBlock:])&7
	i.blockBytes = 1 << size
	i.FSBytes, i.FreeBytes = int64(blocks<<size), int64(free<<size)
	i.UUID, i.Label = uuidText(super[ext4UUID:]), cString(super[ext4Name:ext4Name+16])
	switch {
	case incompat&(incompatExtents|incompat64) != 0:
	case le.Uint32(super[ext4Compat:])&compatJournal != 0:
		i.FS = "ext3"
	default:
		i.FS = "ext2"
	}
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
