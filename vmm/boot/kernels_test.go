package boot

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"minivmm/devices/guestmem"
)

// testKernels returns the images named by MINIVMM_TEST_KERNELS, a list of paths
// like $PATH.
func testKernels(t testing.TB) []string {
	list := filepath.SplitList(os.Getenv("MINIVMM_TEST_KERNELS"))
	if len(list) == 0 {
		t.Skip("no real kernels: set MINIVMM_TEST_KERNELS=/path/vmlinuz:...")
	}
	return list
}

func TestRealKernelsAreUnpackedCachedAndLoaded(t *testing.T) {
	for _, path := range testKernels(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			opt := Options{CacheDir: filepath.Join(t.TempDir(), "cache")}
			var ram [4][]byte
			for i, want := range []Source{FromUnpacked, FromCache, FromMemory, FromCache} {
				opt := opt
				if want == FromMemory {
					opt.CacheDir = ""
				}
				if i == 3 {
					opt.Protocol = PVH
				}
				k, err := Open(path, opt)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v entry64 %#x pvh %#x span %#x", k.Info(), k.program.linux64, k.program.pvh, k.program.span())
				if got := k.Info().Source; got != want {
					t.Errorf("start %d: source %q, want %q (%v)", i, got, want, k.Info().NotCached)
				}
				mem := newMemory(t, 256<<20)
				e, err := k.Load(mem, Params{Cmdline: "console=ttyS0"})
				if err != nil {
					t.Fatal(err)
				}
				if e.Protocol == PVH {
					w, _ := mem.Window(guestmem.GPA(e.RBX), 4)
					if binary.LittleEndian.Uint32(w) != startInfoMagic {
						t.Errorf("RBX %#x: no hvm_start_info", e.RBX)
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
					t.Errorf("start %d put another kernel into RAM than the first", i)
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
				if k.Info().Source != FromMemory {
					b.Fatalf("source %q", k.Info().Source)
				}
				k.Close()
			}
		})
	}
}

func BenchmarkOpenCachedAndLoad(b *testing.B) {
	for _, path := range testKernels(b) {
		b.Run(filepath.Base(path), func(b *testing.B) {
			opt := Options{CacheDir: b.TempDir()}
			for b.Loop() {
				k, err := Open(path, opt)
				if err != nil {
					b.Fatal(err)
				}
				mem := newMemory(b, 256<<20)
				if _, err := k.Load(mem, Params{}); err != nil {
					b.Fatal(err)
				}
				mem.Close()
				k.Close()
			}
		})
	}
}
