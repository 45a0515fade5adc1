package oci

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"minivmm/guestimages/filetree"
)

// The names in an archive's list must not keep their headers, of up to 1 MiB, in memory.
func TestArchiveKeepsNoHeaders(t *testing.T) {
	name := func(i int) string { return fmt.Sprint(i, strings.Repeat("n", 110)) }
	f, err := os.Open(written(t, "a.tar", longHeaders(t, 200, name)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	entries, err := list(t.Context(), f)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); err != nil || len(entries) != 200 || kept > 4<<20 {
		t.Errorf("%d entries keep %d MiB, %v", len(entries), kept>>20, err)
	}
	runtime.KeepAlive(entries)
}

func TestArchiveWithTooManyNames(t *testing.T) {
	var files []file
	for i := range 10_000 {
		files = append(files, regular(fmt.Sprint(i, strings.Repeat("n", 1000)), "", 0o644))
	}
	_, err := openArchive(t.Context(), written(t, "a.tar", tarOf(t, files...)), filepath.Join(t.TempDir(), "scratch"), filetree.Limits{})
	if err == nil || !strings.Contains(err.Error(), "bytes of names") {
		t.Errorf("got %v", err)
	}
}

// longHeaders returns a tar of n empty files with long comments in their headers.
func longHeaders(t *testing.T, n int, name func(i int) string) []byte {
	var files []file
	for i := range n {
		f := regular(name(i), "", 0o644)
		f.Header.PAXRecords = map[string]string{"MINIVMM.comment": strings.Repeat("x", 200<<10)}
		f.Header.Format = tar.FormatPAX
		files = append(files, f)
	}
	return tarOf(t, files...)
}
