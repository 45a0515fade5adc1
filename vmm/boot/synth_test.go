package boot

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"minivmm/devices/guestmem"
)

// testELF builds a vmlinux. The zero value of each option gives a valid image.
type testELF struct {
	entry    uint64
	segments []testSegment
	pvh      uint64
	pvhSize  int // size of the note's value; 0: 4
	mutate   func(b []byte)
}

type testSegment struct {
	gpa              uint64
	data             []byte
	bss              uint64
	skew             uint64 // added to a file offset that is congruent with gpa
	offset, fileSize uint64 // override the header values, if not 0
}

func (e testELF) bytes() []byte {
	le := binary.LittleEndian
	count := len(e.segments)
	if e.pvh != 0 {
		count++
	}
	b := make([]byte, ehdrSize+count*phdrSize)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_EXEC))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint64(b[24:], e.entry)
	le.PutUint64(b[32:], uint64(ehdrSize))
	le.PutUint16(b[54:], uint16(phdrSize))
	le.PutUint16(b[56:], uint16(count))
	header := func(i int) []byte { return b[ehdrSize+i*phdrSize:] }
	for i, s := range e.segments {
		off := uint64(len(b)+4095)&^4095 + s.gpa%4096 + s.skew
		b = append(b, make([]byte, int(off)-len(b))...)
		b = append(b, s.data...)
		h := header(i)
		le.PutUint32(h, uint32(elf.PT_LOAD))
		fileSize := uint64(len(s.data))
		le.PutUint64(h[40:], fileSize+s.bss)
		if s.offset != 0 {
			off = s.offset
		}
		if s.fileSize != 0 {
			fileSize = s.fileSize
		}
		le.PutUint64(h[8:], off)
		le.PutUint64(h[24:], s.gpa)
		le.PutUint64(h[32:], fileSize)
	}
	if e.pvh != 0 {
		n := 4
		if e.pvhSize != 0 {
			n = e.pvhSize
		}
		note := make([]byte, 20, 40)
		le.PutUint32(note, 6) // another note first, of odd length
		le.PutUint32(note[4:], 1)
		copy(note[12:], "Linux\x00")
		note = append(note, 7, 0, 0, 0)
		note = le.AppendUint32(note, 4)
		note = le.AppendUint32(note, uint32(n))
		note = le.AppendUint32(note, xenPhys32)
		note = append(note, "Xen\x00"...)
		note = append(note, le.AppendUint64(nil, e.pvh)[:min(n, 8)]...)
		h := header(count - 1)
		le.PutUint32(h, uint32(elf.PT_NOTE))
		le.PutUint64(h[8:], uint64(len(b)))
		le.PutUint64(h[32:], uint64(len(note)))
		le.PutUint64(h[40:], uint64(len(note)))
		b = append(b, note...)
	}
	if e.mutate != nil {
		e.mutate(b)
	}
	return b
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// soundELF is a valid image with aligned, unaligned and incongruent segments and bss.
func soundELF() testELF {
	return testELF{
		entry: 0x1000040,
		pvh:   0x1000080,
		segments: []testSegment{
			{gpa: 0x1000000, data: noise(3*4096, 1)},
			{gpa: 0x1010123, data: noise(3*4096+77, 2), bss: 5000},
			{gpa: 0x1020000, data: noise(2*4096, 3), skew: 16},
			{gpa: 0x1030ff0, data: noise(100, 4), bss: 3},
		},
	}
}

// smallELF has one page of headers and loads 32 bytes.
func smallELF() []byte {
	return testELF{
		entry: 0x1000000, pvh: 0x1000008,
		segments: []testSegment{{gpa: 0x1000000, data: noise(32, 1), bss: 16}},
	}.bytes()
}

// testBzImage wraps a payload as arch/x86/boot does.
type testBzImage struct {
	payload []byte
	mutate  func(b []byte)
}

func (z testBzImage) bytes() []byte {
	le := binary.LittleEndian
	const sects, off = 1, 0x240
	kernel := (off + len(z.payload) + 15) &^ 15
	b := make([]byte, (sects+1)*512+kernel)
	b[offSetupSects] = sects
	le.PutUint32(b[offSyssize:], uint32(kernel/16))
	le.PutUint16(b[offBootFlag:], bootFlag)
	b[offJump], b[offJump+1] = 0xeb, 0x6a
	copy(b[offHeader:], headerMagic)
	le.PutUint16(b[offVersion:], 0x20f)
	b[offLoadflags] = loadedHigh
	le.PutUint16(b[offXloadflags:], 0x7f)
	le.PutUint32(b[offInitrdAddrMax:], defaultInitrdMax)
	le.PutUint32(b[offKernelAlignment:], 2<<20)
	le.PutUint32(b[offCmdlineSize:], 100)
	le.PutUint32(b[offPayloadOffset:], off)
	le.PutUint32(b[offPayloadLength:], uint32(len(z.payload)))
	le.PutUint64(b[offPrefAddress:], 0x1000000)
	le.PutUint32(b[offInitSize:], 8<<20)
	copy(b[(sects+1)*512+off:], z.payload)
	if z.mutate != nil {
		z.mutate(b)
	}
	return b
}

// pack compresses b as the kernel build does, with the size appended.
func pack(t testing.TB, c string, b []byte) []byte {
	t.Helper()
	p := packFile(t, c, b)
	if c == "gzip" {
		return p
	}
	return binary.LittleEndian.AppendUint32(p, uint32(len(b)))
}

// packFile compresses b as a separate file.
func packFile(t testing.TB, c string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch c {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	case "lz4":
		z := lz4.NewWriter(&out)
		err = z.Apply(lz4.LegacyOption(true))
		w = z
	default:
		t.Fatalf("no packer for %q", c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newMemory returns size bytes of RAM from address 0, filled with garbage where the kernel is
// loaded.
func newMemory(t testing.TB, size uint64) *guestmem.Memory {
	t.Helper()
	mem, err := guestmem.New([]guestmem.Range{{GPA: 0, SizeBytes: size}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return mem
}

func mustOpen(t testing.TB, path string, opt Options) *Kernel {
	t.Helper()
	k, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}
