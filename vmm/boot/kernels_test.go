package boot

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/internal/testbed/testenv"
)

// testKernels returns the images named by MINIVMM_TEST_KERNELS, a list of paths
// like $PATH.
func testKernels(t testing.TB) []string {
	t.Helper()
	testenv.Need(t, "test-kernels")
	return filepath.SplitList(os.Getenv("MINIVMM_TEST_KERNELS"))
}

func TestRealKernelsAreUnpackedAndLoaded(t *testing.T) {
	for _, path := range testKernels(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			vmlinux, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
			if err != nil {
				t.Fatal(err)
			}
			defer vmlinux.Close()
			if image, err := os.Open(path); err != nil {
				t.Fatal(err)
			} else if _, err := Unpack(image, vmlinux); err != nil {
				t.Fatal(err)
			}
			var ram [3][]byte
			for i, start := range []struct {
				path     string
				unpacked bool
				opt      Options
			}{{path, true, Options{}}, {vmlinux.Name(), false, Options{}}, {vmlinux.Name(), false, Options{Protocol: PVH}}} {
				k, err := Open(start.path, start.opt)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v entry64 %#x pvh %#x span %#x", k.Info(), k.program.linux64, k.program.pvh, k.program.span())
				if unpacked := k.Info().Packing != ""; unpacked != start.unpacked {
					t.Errorf("start %d: unpacked %t, want %t", i, unpacked, start.unpacked)
				}
				mem := newMemory(t, 256<<20)
				e, err := k.Load(mem, Params{Cmdline: "console=ttyS0"})
				if err != nil {
					t.Fatal(err)
				}
				if k.Info().Protocol == PVH {
					w, _ := mem.Window(guestmem.GPA(e.Regs.RBX), 4)
					if binary.LittleEndian.Uint32(w) != startInfoMagic {
						t.Errorf("RBX %#x: no hvm_start_info", e.Regs.RBX)
					}
				}
				if err := k.Close(); err != nil {
					t.Error(err)
				}
				s := k.program.span()
				w, err := mem.Window(s.GPA, s.SizeBytes)
				if err != nil {
					t.Fatal(err)
				}
				ram[i] = w
			}
			for i := range ram {
				if !bytes.Equal(ram[0], ram[i]) {
					t.Errorf("start %d loaded a different kernel than the first", i)
				}
			}
		})
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, path := range testKernels(b) {
		b.Run(filepath.Base(path), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k, err := Open(path, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if k.Info().Packing == "" {
					b.Fatal("not unpacked")
				}
				k.Close()
			}
		})
	}
}
