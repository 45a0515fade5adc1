package boot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// released is an image with a version string and a final checksum, as the kernel build creates it.
func released(payload []byte, version string) []byte {
	le := binary.LittleEndian
	b := testBzImage{payload: payload, mutate: func(b []byte) {
		le.PutUint16(b[offKernelVersion:], 0x100)
		copy(b[0x300:], version+"\x00")
		le.PutUint32(b[offPEHeader:], 0x40)
		copy(b[0x40:], "PE\x00\x00")
		le.PutUint32(b[offSyssize:], le.Uint32(b[offSyssize:])+1)
	}}.bytes()
	b = append(b, make([]byte, 12)...)
	return le.AppendUint32(b, ^crc32.ChecksumIEEE(b))
}

func unpackTo(t *testing.T, image []byte) (Info, []byte, error) {
	t.Helper()
	f, err := os.Open(writeFile(t, image))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	i, err := Unpack(f, out)
	if _, serr := f.Stat(); serr != nil {
		t.Errorf("the image was closed: %v", serr)
	}
	b, rerr := os.ReadFile(out.Name())
	if rerr != nil {
		t.Fatal(rerr)
	}
	return i, b, err
}

func TestUnpackDescribesTheImage(t *testing.T) {
	const version = "6.12.3-mine (me@here) #1 SMP"
	elf := soundELF()
	// Far after a decoy, and across the end of the read window.
	elf.segments[0].data = append(noise(256<<10-4096-10, 5), "Linux version %s Linux version "+version+"\n\x00"...)
	elf.segments[0].gpa, elf.entry, elf.pvh = 0x800000, 0x800040, 0
	vmlinux := elf.bytes()
	for _, c := range []struct {
		name  string
		image []byte
		want  Info
		out   []byte
	}{
		{"bzImage", released(pack(t, "zstd", vmlinux), version), Info{Packing: "zstd", Version: version}, vmlinux},
		{"bzImage of lz4", released(pack(t, "lz4", vmlinux), version), Info{Packing: "lz4", Version: version}, vmlinux},
		{"bzImage without a name", testBzImage{payload: pack(t, "gzip", vmlinux)}.bytes(), Info{Packing: "gzip"}, vmlinux},
		{"bzImage of a kernel without checksums", testBzImage{payload: pack(t, "zstd", vmlinux), mutate: func(b []byte) {
			binary.LittleEndian.PutUint16(b[offKernelVersion:], 0x100)
			copy(b[0x300:], "6.15.0\x00")
		}}.bytes(), Info{Packing: "zstd", Version: "6.15.0"}, vmlinux},
		{"packed vmlinux", packFile(t, "zstd", vmlinux), Info{Packing: "zstd", Version: version}, vmlinux},
		{"vmlinux", vmlinux, Info{Version: version}, nil},
		{"vmlinux without a name", smallELF(), Info{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, out, err := unpackTo(t, c.image)
			c.want.Protocol = Linux64
			if err != nil || got != c.want || !bytes.Equal(out, c.out) {
				t.Errorf("got %+v, %d bytes, %v\nwant %+v, %d bytes", got, len(out), err, c.want, len(c.out))
			}
		})
	}
}

func TestUnpackReportsUnknownCompression(t *testing.T) {
	got, out, err := unpackTo(t, released(append([]byte("\x5d\x00\x00lzma"), noise(500, 1)...), "6.1.0"))
	if err != nil || got.NotUnpacked == nil || len(out) != 0 || got.Version != "6.1.0" {
		t.Errorf("got %+v, %d bytes, %v", got, len(out), err)
	}
}

func TestUnpackRefusesPrograms(t *testing.T) {
	elf := testELF{entry: 0x400000, segments: []testSegment{{gpa: 0x400000, data: noise(32, 1)}}}.bytes()
	for _, b := range [][]byte{elf, packFile(t, "gzip", elf)} {
		if i, _, err := unpackTo(t, b); err == nil || !strings.Contains(err.Error(), "not a kernel") {
			t.Errorf("got %+v, %v", i, err)
		}
	}
}

func TestChecksum(t *testing.T) {
	image := released(pack(t, "lz4", soundELF().bytes()), "6.12.3")
	signed := bytes.Clone(image)
	copy(signed[0x40+offPECheckSum:], "sum ")
	copy(signed[0x40+offPECertTable:], "atandlen")
	if _, _, err := unpackTo(t, append(signed, "signature"...)); err != nil {
		t.Errorf("signed: %v", err)
	}
	// lz4 has no checksum: change a byte of the last literals.
	damaged := bytes.Clone(image)
	damaged[0x1f0-1]++
	if _, _, err := unpackTo(t, damaged); err == nil || !strings.Contains(err.Error(), "checksum is wrong") {
		t.Errorf("damaged: %v", err)
	}
	if _, _, err := unpackTo(t, image[:len(image)-16]); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("cut: %v", err)
	}
}

func TestUnpackOntoAFullDisk(t *testing.T) {
	f, err := os.Open(writeFile(t, testBzImage{payload: pack(t, "zstd", soundELF().bytes())}.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := Unpack(f, full); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("got %v", err)
	}
}
