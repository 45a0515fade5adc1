package boot

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"minivmm/devices/guestmem"
)

func TestKernelIsLoadedAsItsHeadersSay(t *testing.T) {
	elf := soundELF()
	images := map[string][]byte{
		"vmlinux":      elf.bytes(),
		"vmlinux.zst":  packFile(t, "zstd", elf.bytes()),
		"vmlinux.gz":   packFile(t, "gzip", elf.bytes()),
		"bzImage gzip": testBzImage{payload: pack(t, "gzip", elf.bytes())}.bytes(),
		"bzImage zstd": testBzImage{payload: pack(t, "zstd", elf.bytes())}.bytes(),
		"bzImage lz4":  testBzImage{payload: pack(t, "lz4", elf.bytes())}.bytes(),
	}
	for name, image := range images {
		t.Run(name, func(t *testing.T) {
			k := mustOpen(t, writeFile(t, image), Options{})
			mem := newMemory(t, 64<<20)
			all, _ := mem.Window(0x1000000, 0x100000)
			for i := range all {
				all[i] = 0xaa
			}
			e, err := k.Load(mem, Params{Cmdline: "quiet"})
			if err != nil {
				t.Fatal(err)
			}
			if k.Info().Protocol != Linux64 || e.Regs.RIP != elf.entry {
				t.Errorf("entry %s at %#x, want linux64 at %#x", k.Info().Protocol, e.Regs.RIP, elf.entry)
			}
			want := bytes.Repeat([]byte{0xaa}, len(all))
			for _, s := range elf.segments {
				at := s.gpa - 0x1000000
				clear(want[at+uint64(copy(want[at:], s.data)):][:s.bss])
			}
			for i := range want {
				if want[i] != all[i] {
					t.Fatalf("byte at %#x is %#x, want %#x", 0x1000000+i, all[i], want[i])
				}
			}
		})
	}
}

func TestBzImageOfUnknownCompressionUnpacksItself(t *testing.T) {
	for name, opt := range map[string]Options{"unknown": {}, "asked for": {KeepPacked: true}} {
		t.Run(name, func(t *testing.T) {
			image := testBzImage{payload: append([]byte("\x89LZO"), noise(9000, 5)...)}.bytes()
			k := mustOpen(t, writeFile(t, image), opt)
			if i := k.Info(); i.Packing != "" || (i.NotUnpacked == nil) != opt.KeepPacked {
				t.Errorf("info %+v", i)
			}
			mem := newMemory(t, 64<<20)
			e, err := k.Load(mem, Params{})
			if err != nil {
				t.Fatal(err)
			}
			if k.Info().Protocol != Linux64 || e.Regs.RIP != 0x1000200 {
				t.Errorf("entry %s at %#x, want linux64 at pref_address + 0x200", k.Info().Protocol, e.Regs.RIP)
			}
			got, _ := mem.Window(0x1000000, uint64(len(image)-1024))
			if !bytes.Equal(got, image[1024:]) {
				t.Error("RAM at pref_address is not the protected-mode code")
			}
			// init_size must fit, not only the bytes that are copied.
			if _, err := k.Load(newMemory(t, 0x1000000+7<<20), Params{}); err == nil || !strings.Contains(err.Error(), "needs 0x800000 bytes at 0x1000000") {
				t.Errorf("RAM smaller than init_size: %v", err)
			}
		})
	}
}

// TestBzImageEndsInsideItsLastParagraph: the header counts 16-byte paragraphs, and the last one of
// memtest86+ is not padded.
func TestBzImageEndsInsideItsLastParagraph(t *testing.T) {
	image := testBzImage{payload: noise(9000, 5), mutate: func(b []byte) {
		clear(b[offPayloadOffset:][:8]) // nothing to unpack
	}}.bytes()
	for missing := range 17 {
		cut := image[:len(image)-missing]
		k, err := Open(writeFile(t, cut), Options{})
		if missing == 16 {
			if err == nil || !strings.Contains(err.Error(), "truncated") {
				t.Errorf("a paragraph is missing: %v", err)
			}
			break
		}
		if err != nil {
			t.Errorf("%d bytes are missing: %v", missing, err)
			continue
		}
		mem := newMemory(t, 64<<20)
		if _, err := k.Load(mem, Params{}); err != nil {
			t.Errorf("%d bytes are missing: %v", missing, err)
		}
		got, _ := mem.Window(0x1000000, uint64(len(image)-1024))
		if !bytes.Equal(got, append(cut[1024:len(cut):len(cut)], make([]byte, missing)...)) {
			t.Errorf("%d bytes are missing: RAM is not the code and zeros", missing)
		}
		k.Close()
	}
}

func TestMemfdOfUnpackedKernelIsReleased(t *testing.T) {
	k := mustOpen(t, writeFile(t, packFile(t, "zstd", soundELF().bytes())), Options{})
	mem := newMemory(t, 64<<20)
	if _, err := k.Load(mem, Params{}); err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(maps), "memfd:minivmm-vmlinux") {
		t.Error("the unpacked file is mapped into the guest")
	}
}

func TestProtocolFollowsImageAndOption(t *testing.T) {
	both := soundELF()
	only64, onlyPVH, sameEntry := both, both, both
	only64.pvh = 0
	onlyPVH.entry = 0xffffffff81000000
	sameEntry.entry = both.pvh
	wide := both
	wide.pvhSize = 8
	for _, c := range []struct {
		name  string
		image testELF
		ask   Protocol
		want  Protocol // "": expect an error
	}{
		{"both", both, "", Linux64},
		{"both", both, Auto, Linux64},
		{"both", both, PVH, PVH},
		{"8-byte note", wide, PVH, PVH},
		{"64-bit only", only64, Auto, Linux64},
		{"64-bit only", only64, PVH, ""},
		{"virtual entry", onlyPVH, Auto, PVH},
		{"virtual entry", onlyPVH, Linux64, ""},
		{"entry is PVH's", sameEntry, Auto, PVH},
		{"unknown", both, "multiboot", ""},
	} {
		t.Run(c.name+" "+string(c.ask), func(t *testing.T) {
			k, err := Open(writeFile(t, c.image.bytes()), Options{Protocol: c.ask})
			if c.want == "" {
				if err == nil {
					t.Fatalf("opened as %s", k.Info().Protocol)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if got := k.Info().Protocol; got != c.want {
				t.Errorf("protocol %s, want %s", got, c.want)
			}
			e, err := k.Load(newMemory(t, 64<<20), Params{})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == PVH && (e.Regs.RIP != both.pvh || e.Regs.RBX != uint64(startInfoGPA) || e.CR0 != 0x11 || e.CR4 != 0 || e.EFER != 0 || e.Code != code32) {
				t.Errorf("PVH entry %+v", e)
			}
			if c.want == Linux64 && (e.Regs.RIP != both.entry || e.Regs.RSI != uint64(zeroPageGPA) || e.CR0 != 0x80000011 || e.CR4 != 0x20 || e.EFER != 0x500 || e.Code != code64) {
				t.Errorf("64-bit entry %+v", e)
			}
		})
	}
}

func TestInitrdIsHighAlignedAndComplete(t *testing.T) {
	k := mustOpen(t, writeFile(t, soundELF().bytes()), Options{})
	kernelEnd := uint64(k.program.span().GPA) + k.program.span().SizeBytes
	for _, size := range []int{1, 4095, 4096, 4097, 3*4096 + 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := noise(size, 6)
			f, err := os.Open(writeFile(t, data))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			mem := newMemory(t, 32<<20)
			reserved := []E820Entry{{GPA: 31 << 20, SizeBytes: 1 << 20, Type: Reserved}}
			if _, err := k.Load(mem, Params{Initrd: f, Reserved: reserved}); err != nil {
				t.Fatal(err)
			}
			w, _ := mem.Window(zeroPageGPA, zeroPageSize)
			at, n := uint64(le32(w[offRamdiskImage:])), uint64(le32(w[offRamdiskSize:]))
			if want := uint64(31<<20-size) &^ 4095; n != uint64(size) || at != want {
				t.Errorf("initrd at %#x+%#x, want %#x+%#x", at, n, want, size)
			}
			if at < kernelEnd {
				t.Errorf("initrd at %#x overlaps the kernel, which ends at %#x", at, kernelEnd)
			}
			got, err := mem.Window(guestmem.GPA(at), n)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("initrd in RAM differs from the file (%v)", err)
			}
		})
	}
}

func TestInitrdPlace(t *testing.T) {
	const mib = 1 << 20
	f, err := os.Create(t.TempDir() + "/initrd")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kernel := guestmem.Range{GPA: 16 * mib, SizeBytes: 32 * mib}
	for _, c := range []struct {
		name string
		ram  []guestmem.Range
		last uint64
		size int64
		want uint64 // 0: expect an error
	}{
		{"top of RAM", []guestmem.Range{{SizeBytes: 256 * mib}}, defaultInitrdMax, mib, 255 * mib},
		{"initrd_addr_max", []guestmem.Range{{SizeBytes: 3 << 30}}, defaultInitrdMax, mib, 2<<30 - mib},
		{"never above 4 GiB", []guestmem.Range{{SizeBytes: 3 << 30}, {GPA: 1 << 32, SizeBytes: 1 << 30}}, 1<<64 - 1, mib, 3<<30 - mib},
		{"exactly what is free", []guestmem.Range{{SizeBytes: 64 * mib}}, defaultInitrdMax, 16 * mib, 48 * mib},
		{"a byte too much", []guestmem.Range{{SizeBytes: 64 * mib}}, defaultInitrdMax, 16*mib + 1, 0},
		{"below the kernel", []guestmem.Range{{SizeBytes: 64 * mib}}, 32 * mib, 15 * mib, mib},
		{"below the kernel because there is no room above", []guestmem.Range{{SizeBytes: 49 * mib}}, defaultInitrdMax, 2 * mib, 14 * mib},
		{"a byte too much below the kernel", []guestmem.Range{{SizeBytes: 48 * mib}}, defaultInitrdMax, 15*mib + 1, 0},
		{"never above 4 GiB because there is no room below", []guestmem.Range{{SizeBytes: 48 * mib}, {GPA: 1 << 32, SizeBytes: 1 << 30}}, defaultInitrdMax, 16 * mib, 0},
		{"larger than all RAM", []guestmem.Range{{SizeBytes: 256 * mib}}, defaultInitrdMax, 1 << 40, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := f.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			got, err := placeInitrd(e820(c.ram, nil), kernel, f, c.last)
			if (err != nil) != (c.want == 0) || uint64(got.GPA) != c.want {
				t.Errorf("placed at %#x (%v), want %#x", uint64(got.GPA), err, c.want)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	path := writeFile(t, testBzImage{payload: pack(t, "zstd", soundELF().bytes())}.bytes())
	low := soundELF()
	low.segments = append(low.segments, testSegment{gpa: 0x9f000, data: noise(8192, 7)})
	over := soundELF()
	over.segments = append(over.segments, testSegment{gpa: 0x8000, data: noise(16, 8)})
	empty, err := os.Open(writeFile(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, c := range []struct {
		name string
		path string
		ram  uint64
		p    Params
		want string
	}{
		{"command line too long", path, 64 << 20, Params{Cmdline: strings.Repeat("x", 101)}, "command line of 101 bytes is too long: this kernel accepts 100"},
		{"NUL", path, 64 << 20, Params{Cmdline: "a\x00b"}, `command line: byte 1 is '\x00'`},
		{"newline", path, 64 << 20, Params{Cmdline: "a\n"}, `command line: byte 1 is '\n'`},
		{"little RAM", path, 2<<20 + 0x31000, Params{}, "bytes at 0x1000000: not free RAM"},
		{"little RAM for a bzImage that unpacks itself", writeFile(t, testBzImage{payload: append([]byte("\x89LZO"), noise(9000, 5)...)}.bytes()), 16 << 20, Params{}, "bytes at 0x1000000: not free RAM"},
		{"tiny RAM", path, 4096, Params{}, "boot structures at 0x1000"},
		{"reserved over the kernel", path, 64 << 20, Params{Reserved: []E820Entry{{0x1011000, 1, Reserved}, {0x211000, 1, Reserved}}}, "bytes at 0x1010123: not free RAM"},
		{"reserved over the boot structures", path, 64 << 20, Params{Reserved: []E820Entry{{0x2000, 1, ACPIData}}}, "boot structures"},
		{"reserved ranges overlap", path, 64 << 20, Params{Reserved: []E820Entry{{0x2000, 2, ACPIData}, {0x2001, 1, Reserved}}}, "overlap"},
		{"segment in the hole", writeFile(t, low.bytes()), 64 << 20, Params{}, "bytes at 0x9f000: not free RAM"},
		{"segment over the boot structures", writeFile(t, over.bytes()), 64 << 20, Params{}, "bytes at 0x8000: not free RAM"},
		{"empty initrd", path, 64 << 20, Params{Initrd: empty}, "empty file"},
		{"folder as initrd", path, 64 << 20, Params{Initrd: dir}, "not a regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := mustOpen(t, c.path, Options{})
			_, err := k.Load(newMemory(t, c.ram), c.p)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.path) {
				t.Errorf("error %q does not name the image", err)
			}
		})
	}
}

func TestKernelMovesDownIfMemoryIsSmall(t *testing.T) {
	elf := soundELF()
	const down = 14 << 20 // from 16 MiB to 2
	vmlinux, bz := writeFile(t, elf.bytes()), writeFile(t, testBzImage{payload: pack(t, "zstd", elf.bytes())}.bytes())
	big := writeFile(t, make([]byte, 18<<20))
	for _, c := range []struct {
		name   string
		path   string
		opt    Options
		ram    uint64
		initrd string
		down   uint64
		fails  bool
	}{
		{"enough", vmlinux, Options{}, 64 << 20, "", 0, false},
		{"exactly enough", vmlinux, Options{}, 0x1032000, "", 0, false},
		{"a page too little", vmlinux, Options{}, 0x1031000, "", down, false},
		{"unpacked from a bzImage", bz, Options{}, 8 << 20, "", down, false},
		{"no room for the initrd", vmlinux, Options{}, 32 << 20, big, down, false},
		{"no room wherever the kernel is", vmlinux, Options{}, 19 << 20, big, 0, true},
		{"PVH", vmlinux, Options{Protocol: PVH}, 8 << 20, "", 0, true},
		{"packed", bz, Options{KeepPacked: true}, 8 << 20, "", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := mustOpen(t, c.path, c.opt)
			var p Params
			if c.initrd != "" {
				f, err := os.Open(c.initrd)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				p.Initrd = f
			}
			mem := newMemory(t, c.ram)
			e, err := k.Load(mem, p)
			if (err != nil) != c.fails {
				t.Fatalf("error %v", err)
			}
			if c.fails {
				return
			}
			if e.Regs.RIP != elf.entry-c.down {
				t.Errorf("entry %#x, want %#x", e.Regs.RIP, elf.entry-c.down)
			}
			for _, s := range elf.segments {
				got, err := mem.Window(guestmem.GPA(s.gpa-c.down), uint64(len(s.data)))
				if err != nil || !bytes.Equal(got, s.data) {
					t.Errorf("segment %#x is not %#x lower (%v)", s.gpa, c.down, err)
				}
			}
		})
	}
}

// The files are smallELF packed with xz, bzip2, lz4 and zstd; xz and zstd with the options of the
// kernel build (scripts/Makefile.lib).
func TestVmlinuxPackedByCommandLineTools(t *testing.T) {
	for ext, want := range map[string]string{"xz": "xz", "bz2": "bzip2", "lz4": "lz4", "zst": "zstd"} {
		t.Run(ext, func(t *testing.T) {
			k := mustOpen(t, "testdata/small.vmlinux."+ext, Options{})
			if i := k.Info(); i.Packing != want {
				t.Errorf("info %+v", i)
			}
			b := make([]byte, len(smallELF()))
			if _, err := k.file.ReadAt(b, 0); err != nil || !bytes.Equal(b, smallELF()) {
				t.Errorf("unpacked image differs (%v)", err)
			}
		})
	}
}
