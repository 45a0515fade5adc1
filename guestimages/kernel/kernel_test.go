package kernel

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestNamesOfKernels(t *testing.T) {
	for name, want := range map[string][2]string{
		"6.12":       {"6.12", Full},
		"6.1":        {"6.1", Full},
		"6.12-cloud": {"6.12", Cloud},
	} {
		series, flavour, err := Parse(name)
		if err != nil || series != want[0] || flavour != want[1] {
			t.Errorf("%s: got %q, %q, %v", name, series, flavour, err)
		}
	}
	for _, name := range []string{"", "6", "6.", ".1", "6.12-rt", "6.x", "-cloud", "6.1.2"} {
		if _, _, err := Parse(name); err == nil {
			t.Errorf("%q was taken for a kernel", name)
		}
	}
}

func TestKernelIsFoundInOldAndNewPackages(t *testing.T) {
	for _, lib := range []string{"lib", "usr/lib"} {
		dir := t.TempDir()
		image := filepath.Join(dir, "boot", "vmlinuz-6.12.1-amd64")
		mods := filepath.Join(dir, lib, "modules", "6.12.1-amd64")
		if err := os.MkdirAll(mods, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := in(dir); err == nil {
			t.Error("a package without an image has a kernel")
		}
		if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(image, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		k, err := in(dir)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Kernel{Release: "6.12.1-amd64", Image: image, Modules: mods}); k != want {
			t.Errorf("got %+v, want %+v", k, want)
		}
		if err := os.RemoveAll(mods); err != nil {
			t.Fatal(err)
		}
		if _, err := in(dir); err == nil || !strings.Contains(err.Error(), "no modules") {
			t.Errorf("without modules: %v", err)
		}
	}
}

// bzImage is the smallest that unpack reads: two sectors of setup, then elf compressed.
func bzImage(t *testing.T, elf []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := binary.LittleEndian.AppendUint32(w.EncodeAll(elf, nil), uint32(len(elf)))
	image := make([]byte, 2*sectorSize+16)
	image[offSetupSects] = 1
	copy(image[offMagic:], "HdrS")
	binary.LittleEndian.PutUint16(image[offVersion:], versionPayload)
	binary.LittleEndian.PutUint32(image[offPayload:], 16)
	binary.LittleEndian.PutUint32(image[offPayloadLength:], uint32(len(payload)))
	return append(append(image, payload...), "behind"...)
}

func TestKernelIsUnpacked(t *testing.T) {
	elf := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel"), 1000)...)
	got, err := unpack(bzImage(t, elf))
	if err != nil || !bytes.Equal(got, elf) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(elf))
	}
}

func TestBrokenImagesAreRefused(t *testing.T) {
	elf := append([]byte("\x7fELF"), make([]byte, 100)...)
	for name, spoil := range map[string]func([]byte) []byte{
		"short":           func(b []byte) []byte { return b[:headerEnd-1] },
		"no magic":        func(b []byte) []byte { b[offMagic] = 'h'; return b },
		"old":             func(b []byte) []byte { b[offVersion] = 7; return b },
		"payload outside": func(b []byte) []byte { b[offPayload+3] = 0xff; return b },
		"no payload":      func(b []byte) []byte { clear(b[offPayloadLength : offPayloadLength+4]); return b },
		"cut":             func(b []byte) []byte { b[offPayloadLength]--; return b },
		"unknown format":  func(b []byte) []byte { b[2*sectorSize+16] = 0; return b },
	} {
		if _, err := unpack(spoil(bzImage(t, elf))); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
	if _, err := unpack(bzImage(t, []byte("no ELF file"))); err == nil {
		t.Error("something else was taken for a kernel")
	}
}
