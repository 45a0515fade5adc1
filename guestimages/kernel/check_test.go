package kernel

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/internal/testbed/kerneltest"
)

func TestCheck(t *testing.T) {
	module := kerneltest.Module
	const magic = "vermagic=6.12.3-mine SMP mod_unload "
	for _, tt := range []struct {
		name  string
		dep   string
		files map[string][]byte
		want  string // in the error; "": no error
	}{
		{"sound", "k/a.ko: k/b.ko\nk/b.ko:\n", map[string][]byte{"k/a.ko": module("depends=b,virtio", magic), "k/b.ko": module("depends=", magic)}, ""},
		{"a file is missing", "k/a.ko: k/b.ko\nk/b.ko:\n", map[string][]byte{"k/a.ko": module(magic)}, "a requires b, whose file k/b.ko does not exist"},
		{"a file that nothing needs is missing", "k/a.ko:\n", map[string][]byte{}, "modules.dep names k/a.ko, which does not exist"},
		{"modules.dep names what it does not have", "k/a.ko: k/b.ko\n", map[string][]byte{"k/a.ko": module(magic)}, "a requires b, which is neither a file nor built in"},
		{"depmod could not know", "k/a.ko:\n", map[string][]byte{"k/a.ko": module("depends=b", magic)}, "a requires b, which is neither a file nor built in"},
		{"another kernel's", "k/a.ko:\nk/b.ko:\n", map[string][]byte{"k/a.ko": module(magic), "k/b.ko": module("vermagic=6.1.0 SMP")}, "k/b.ko was built for kernel 6.1.0, not 6.12.3-mine"},
		{"another architecture's", "k/a.ko:\n", map[string][]byte{"k/a.ko": func() []byte { b := module(magic); b[18] = 183; return b }()}, "EM_AARCH64"},
		{"damaged", "k/a.ko:\n", map[string][]byte{"k/a.ko": module(magic)[:70]}, "k/a.ko: not a module"},
		{"no module", "k/a.ko:\n", map[string][]byte{"k/a.ko": bytes.ReplaceAll(module(magic), []byte("modinfo"), []byte("another"))}, "no section .modinfo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.files["modules.dep"], tt.files["modules.builtin"] = []byte(tt.dep), []byte(builtin)
			for name, b := range tt.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tree, err := OpenModules(dir)
			if err != nil {
				t.Fatal(err)
			}
			err = tree.Check(t.Context(), "6.12.3-mine", 0)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A section may be compressed: struct Elf64_Chdr (elf(5)), followed by zeros that zlib compressed.
func TestHugeInformationIsRefused(t *testing.T) {
	const size = 8 << 20
	var packed bytes.Buffer
	binary.Write(&packed, binary.LittleEndian, []uint64{uint64(elf.COMPRESS_ZLIB), size, 1})
	w := zlib.NewWriter(&packed)
	w.Write(make([]byte, size))
	w.Close()
	b := kerneltest.Module(packed.String())
	table := binary.LittleEndian.Uint64(b[40:]) // e_shoff
	binary.LittleEndian.PutUint64(b[table+64+8:], uint64(elf.SHF_COMPRESSED))
	if _, err := readModinfo(b); err == nil || !strings.Contains(err.Error(), "8388608 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestWhoNeedsAMissingModuleIsNamed(t *testing.T) {
	_, err := testTree(t, "k/a.ko: k/b.ko\n").LoadOrder("a")
	if err == nil || !strings.Contains(err.Error(), "a requires b") {
		t.Errorf("got %v", err)
	}
}
