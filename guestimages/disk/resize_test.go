package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResizeExt4(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	tree := strange(t, Ext4)
	if err := FromTree(t.Context(), tree, image, false, Options{SizeBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{200 << 20, 200 << 20, 1 << 30, 40 << 20, 40<<20 + 4096} {
		if err := Resize(t.Context(), image, size, nil); err != nil {
			t.Fatalf("to %d: %v", size, err)
		}
		info, err := Inspect(image)
		if err != nil {
			t.Fatal(err)
		}
		if info.SizeBytes != size || info.FSBytes != size || info.UsedBytes > 24<<20 {
			t.Errorf("to %d: got %+v", size, info)
		}
		toolOutput(t, "", "e2fsck", "-fn", image)
		_, got := readExt4(t, image)
		compare(t, tree, got)
	}
	err := Resize(t.Context(), image, 1<<20, nil)
	var input *InputError
	if !errors.As(err, &input) || !strings.Contains(err.Error(), "its files need about") {
		t.Errorf("far too small: got %v", err)
	}
	if info, err := Inspect(image); err != nil || info.SizeBytes != 40<<20+4096 {
		t.Errorf("the image has changed: %+v, %v", info, err)
	}
}

func TestResizeCutsOffOnlyZeros(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := Create(t.Context(), image, false, Options{SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 600_000} {
		if _, err := f.WriteAt([]byte("x"), at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(make([]byte, 50_000), 800_000); err != nil { // written zeros count as zeros, like holes
		t.Fatal(err)
	}
	for _, tt := range []struct {
		size int64
		want string
	}{
		{2 << 20, ""},
		{602_112, ""},
		{598_016, "it contains data up to 588K"},
		{598_017, "multiple of 4096 (4K)"},
		{0, "multiple of 4096 (4K)"},
	} {
		err := Resize(t.Context(), image, tt.size, nil)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("to %d: got %v, want %q", tt.size, err, tt.want)
		}
	}
	if info, err := Inspect(image); err != nil || info.SizeBytes != 602_112 {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestResizeRefusesOtherFormats(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.qcow2")
	if err := os.WriteFile(image, append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 4088)...), 0o600); err != nil {
		t.Fatal(err)
	}
	var input *InputError
	if err := Resize(t.Context(), image, 1<<20, nil); !errors.As(err, &input) || !strings.Contains(err.Error(), "qemu-img convert") {
		t.Errorf("got %v", err)
	}
	if st, err := os.Stat(image); err != nil || st.Size() != 4096 {
		t.Errorf("the image has changed: %v, %v", st, err)
	}
}

func TestResizeOfAnImageInUse(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := Create(t.Context(), image, false, Options{SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	lock, err := Lock(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := Resize(t.Context(), image, 2<<20, nil); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "in use by process ") {
		t.Errorf("got %v", err)
	}
	if info, err := Inspect(image); err != nil || !strings.Contains(info.InUseBy, "process ") {
		t.Errorf("got %+v, %v", info, err)
	}
	lock.Close()
	if err := Resize(t.Context(), image, 2<<20, nil); err != nil {
		t.Errorf("after the lock: %v", err)
	}
	if info, err := Inspect(image); err != nil || info.InUseBy != "" {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestResizeOfABrokenFileSystem(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := Create(t.Context(), image, false, Options{FS: Ext4, SizeBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 15<<20); err != nil {
		t.Fatal(err)
	}
	if err := Resize(t.Context(), image, 32<<20, nil); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("got %v", err)
	}
}
