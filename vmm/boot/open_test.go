package boot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBrokenImagesGiveAPreciseError(t *testing.T) {
	le := binary.LittleEndian
	elf := func(change func(e *testELF)) []byte {
		e := soundELF()
		change(&e)
		return e.bytes()
	}
	patchELF := func(f func(b []byte)) []byte { return elf(func(e *testELF) { e.mutate = f }) }
	payload := pack(t, "zstd", soundELF().bytes())
	patchBz := func(f func(b []byte)) []byte { return testBzImage{payload: payload, mutate: f}.bytes() }
	withPayload := func(p []byte) []byte { return testBzImage{payload: p}.bytes() }
	sound, soundBz := soundELF().bytes(), testBzImage{payload: payload}.bytes()
	wrongSize := append([]byte(nil), payload...)
	le.PutUint32(wrongSize[len(wrongSize)-4:], uint32(len(sound)-1))
	bomb := append([]byte(nil), payload...)
	le.PutUint32(bomb[len(bomb)-4:], 1<<31)

	for _, c := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"empty", nil, "an empty file"},
		{"text", []byte("hello\n"), "a text file"},
		{"script", []byte("#!/bin/sh\n"), "a script"},
		{"tar", append(make([]byte, 257), "ustar\x0000"...), "a tar archive"},
		{"cpio", []byte("070701000000"), "a cpio archive (an initrd?)"},
		{"arm64 Image", append(make([]byte, 0x38), "ARM\x64"...), "an arm64 Linux Image"},
		{"PE", []byte("MZ\x00\x00\x01"), "a PE (EFI or Windows) program"},
		{"boot sector", append(make([]byte, 510), 0x55, 0xaa), "a disk image with a boot sector"},
		{"noise", []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09"), "unknown data that starts with 01 02 03"},
		{"gzip of text", packFile(t, "gzip", []byte("hello\n")), "gzip data: holds a text file, not a vmlinux"},
		{"gzip of tar", packFile(t, "gzip", append(make([]byte, 257), "ustar\x0000"...)), "gzip data: holds a tar archive"},
		{"zstd of bzImage", packFile(t, "zstd", soundBz), "zstd data: holds a bzImage"},
		{"gzip cut", packFile(t, "gzip", sound)[:2000], "unpack: gzip: after"},

		{"ELF truncated in its header", sound[:40], "ELF header: the image ends before it"},
		{"ELF cut in the program headers", sound[:100], "ELF program headers at 0x40: the image ends before it"},
		{"ELF cut in a segment", sound[:5000], "ELF program header 0: 0x3000 bytes at 0x1000: the image ends before it"},
		{"32-bit ELF", patchELF(func(b []byte) { b[4] = 1 }), "a 32-bit ELF executable for x86-64, want"},
		{"big-endian", patchELF(func(b []byte) { b[5] = 2; b[16], b[17], b[18], b[19] = 0, 2, 0, 22 }), "a 64-bit ELF executable for s390"},
		{"aarch64", patchELF(func(b []byte) { b[18] = 183 }), "a 64-bit ELF executable for aarch64"},
		{"shared object", patchELF(func(b []byte) { b[16] = 3 }), "a 64-bit ELF shared object"},
		{"no program headers", patchELF(func(b []byte) { le.PutUint16(b[56:], 0) }), "0 ELF program headers"},
		{"65535 program headers", patchELF(func(b []byte) { le.PutUint16(b[56:], 0xffff) }), "65535 ELF program headers"},
		{"program header size", patchELF(func(b []byte) { le.PutUint16(b[54:], 32) }), "ELF program headers of 32 bytes"},
		{"program headers far away", patchELF(func(b []byte) { le.PutUint64(b[32:], 1<<63) }), "the image ends before it"},
		{"dynamic program", patchELF(func(b []byte) { le.PutUint32(b[64:], 3) }), "a dynamically linked program"},
		{"p_filesz > p_memsz", patchELF(func(b []byte) { le.PutUint64(b[64+40:], 1) }), "p_filesz 0x3000 is larger than p_memsz 0x1"},
		{"p_offset wraps", patchELF(func(b []byte) { le.PutUint64(b[64+8:], 1<<64-4096) }), "the image ends before it"},
		{"huge p_memsz", patchELF(func(b []byte) { le.PutUint64(b[64+40:], 1<<40) }), "larger than 1024 MiB"},
		{"p_paddr wraps", patchELF(func(b []byte) { le.PutUint64(b[64+24:], 1<<64-4096) }), "above 4 GiB"},
		{"segment ends above 4 GiB", patchELF(func(b []byte) { le.PutUint64(b[64+24:], 1<<32-4096) }), "segment of 0x3000 bytes at 0xfffff000: larger than 1024 MiB or above 4 GiB"},
		{"overlap", patchELF(func(b []byte) { le.PutUint64(b[64+40:], 0x10124) }), "segments 0x1000000+0x10124 and 0x1010123+0x43d5 overlap"},
		{"no segments", patchELF(func(b []byte) { le.PutUint16(b[56:], 1); le.PutUint32(b[64:], 0) }), "no loadable segments"},
		{"entry outside", elf(func(e *testELF) { e.pvh = 0; e.entry = 0x2000000 }), "entry 0x2000000 is outside all segments"},
		{"entry in bss", elf(func(e *testELF) { e.pvh = 0; e.entry = 0x1010123 + 3*4096 + 77 }), "is outside all segments"},
		{"PVH entry outside", elf(func(e *testELF) { e.pvh = 0x3000000 }), "PVH entry 0x3000000 is outside all segments"},
		{"PVH note of 6 bytes", elf(func(e *testELF) { e.pvhSize = 6 }), "PVH note of 6 bytes"},
		{"note cut", patchELF(func(b []byte) { le.PutUint64(b[64+4*56+32:], 44-2) }), "notes: the image ends before it"},
		{"huge notes", patchELF(func(b []byte) {
			le.PutUint32(b[64:], 4)
			le.PutUint64(b[64+32:], 1<<40)
		}), "the image ends before it"},

		{"bzImage truncated in its header", soundBz[:0x240], "bzImage: setup header: the image ends before it"},
		{"bzImage cut", soundBz[:3000], "bzImage: truncated: the header declares 1024 bytes of setup and"},
		{"setup_sects 0 means 4", patchBz(func(b []byte) { b[offSetupSects] = 0 }), "truncated: the header declares 2560 bytes of setup"},
		{"setup_sects 255", patchBz(func(b []byte) { b[offSetupSects] = 255 }), "truncated: the header declares 131072 bytes of setup"},
		{"boot_flag", patchBz(func(b []byte) { b[offBootFlag] = 0 }), "boot_flag 0xaa00"},
		{"protocol 2.11", patchBz(func(b []byte) { b[offVersion] = 11 }), "boot protocol 2.11 is too old: at least 2.12"},
		{"32-bit kernel", patchBz(func(b []byte) { b[offXloadflags] = 0 }), "a 32-bit kernel"},
		{"zImage", patchBz(func(b []byte) { b[offLoadflags] = 0 }), "a 32-bit kernel"},
		{"header end low", patchBz(func(b []byte) { b[offJump+1] = 0x10 }), "setup header ends at 0x212"},
		{"header end high", patchBz(func(b []byte) { b[offJump+1] = 0xff }), "setup header ends at 0x301"},
		{"syssize 0", patchBz(func(b []byte) { le.PutUint32(b[offSyssize:], 0) }), "truncated"},
		{"payload outside", patchBz(func(b []byte) { le.PutUint32(b[offPayloadOffset:], 1<<32-1) }), "is outside the kernel's"},
		{"init_size small", patchBz(func(b []byte) { le.PutUint32(b[offInitSize:], 4096) }), "init_size 0x1000 at"},
		{"pref_address high", patchBz(func(b []byte) { le.PutUint64(b[offPrefAddress:], 1<<40) }), "above 4 GiB"},
		{"pref_address wraps", patchBz(func(b []byte) { le.PutUint64(b[offPrefAddress:], 1<<64-2<<20) }), "above 4 GiB"},
		{"pref_address skewed", patchBz(func(b []byte) { le.PutUint64(b[offPrefAddress:], 0x1001000) }), "kernel_alignment"},
		{"kernel_alignment 0", patchBz(func(b []byte) { le.PutUint32(b[offKernelAlignment:], 0) }), "kernel_alignment"},
		{"payload damaged", patchBz(func(b []byte) { copy(b[1024+0x240+100:], noise(64, 9)) }), "unpack: zstd: "},
		{"wrong payload length", withPayload(wrongSize), "bytes unpack to more than"},
		{"absurd payload length", withPayload(bomb), "zstd: declared size 2147483648"},
		{"payload is not a vmlinux", withPayload(pack(t, "lz4", noise(5000, 10))), "lz4 data: holds unknown data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeFile(t, c.image)
			k, err := Open(path, Options{})
			if err == nil {
				t.Fatalf("opened: %+v", k.Info())
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q, want the path and %q", err, c.want)
			}
		})
	}
}

func TestADecompressionBombIsRejected(t *testing.T) {
	path := writeFile(t, packFile(t, "gzip", make([]byte, 16<<20)))
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "packed bytes unpack to more than") {
		t.Errorf("16 MiB of zeros: %v", err)
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                          "a directory",
		fifo:                         "not a regular file",
		filepath.Join(dir, "absent"): "no such file",
	} {
		if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
}

func TestClosedImageLeavesNoDescriptor(t *testing.T) {
	good := writeFile(t, testBzImage{payload: pack(t, "zstd", soundELF().bytes())}.bytes())
	bad := writeFile(t, testBzImage{payload: pack(t, "zstd", noise(5000, 1))}.bytes())
	opt := Options{}
	before := openFiles(t)
	for range 3 {
		for _, o := range []Options{opt, {}, {KeepPacked: true}} {
			k, err := Open(good, o)
			if err != nil {
				t.Fatal(err)
			}
			k.Close()
			k, err = Open(bad, o)
			if (err == nil) != o.KeepPacked {
				t.Fatalf("noise opened with %+v: error %v", o, err)
			}
			if err == nil {
				k.Close()
			}
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
