package boot

import (
	"encoding/binary"
	"reflect"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/kvm"
)

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func TestLayoutIsLowAlignedAndDisjoint(t *testing.T) {
	areas := []struct {
		name string
		gpa  guestmem.GPA
		size uint64
	}{
		{"GDT", gdtGPA, gdtSize},
		{"zero page", zeroPageGPA, zeroPageSize},
		{"start_info", startInfoGPA, 4096},
		{"command line", cmdlineGPA, cmdlineRoom},
		{"page tables", pageTablesGPA, identityMapSize},
	}
	end := guestmem.GPA(4096) // page 0 stays unused
	for _, a := range areas {
		if a.gpa < end {
			t.Errorf("%s at %#x overlaps the structure that ends at %#x", a.name, uint64(a.gpa), uint64(end))
		}
		if a.gpa%4096 != 0 {
			t.Errorf("%s at %#x is not page aligned", a.name, uint64(a.gpa))
		}
		end = a.gpa + guestmem.GPA(a.size)
	}
	if end != LowEnd || LowEnd > 64<<10 {
		t.Errorf("structures end at %#x, layout says %#x, want at most 64 KiB", uint64(end), uint64(LowEnd))
	}
}

func TestE820(t *testing.T) {
	const mib = 1 << 20
	ram := func(gpa, size uint64) guestmem.Range {
		return guestmem.Range{GPA: guestmem.GPA(gpa), SizeBytes: size}
	}
	for _, c := range []struct {
		name     string
		ram      []guestmem.Range
		reserved []E820Entry
		want     []E820Entry
	}{
		{"the hole is not RAM", []guestmem.Range{ram(0, 2*mib)}, nil,
			[]E820Entry{{0, 0xa0000, RAM}, {mib, mib, RAM}}},
		{"RAM ends in the hole", []guestmem.Range{ram(0, 0xb0000)}, nil,
			[]E820Entry{{0, 0xa0000, RAM}}},
		{"reserved at both ends and outside", []guestmem.Range{ram(0, 3*mib)},
			[]E820Entry{{0xe0000000, mib, Reserved}, {0, 4096, Reserved}, {0x9f000, 0x1000, ACPIData}, {3*mib - 4096, 8192, Reserved}},
			[]E820Entry{{0, 4096, Reserved}, {4096, 0x9e000, RAM}, {0x9f000, 0x1000, ACPIData}, {mib, 2*mib - 4096, RAM}, {3*mib - 4096, 8192, Reserved}, {0xe0000000, mib, Reserved}}},
		{"reserved in the hole is listed", []guestmem.Range{ram(0, 2*mib)}, []E820Entry{{0xe0000, 0x10000, ACPIData}},
			[]E820Entry{{0, 0xa0000, RAM}, {0xe0000, 0x10000, ACPIData}, {mib, mib, RAM}}},
		{"neighbours merge", []guestmem.Range{ram(mib, mib), ram(2*mib, mib)}, []E820Entry{{4 * mib, mib, Reserved}, {5 * mib, mib, Reserved}},
			[]E820Entry{{mib, 2 * mib, RAM}, {4 * mib, 2 * mib, Reserved}}},
		{"all of it reserved", []guestmem.Range{ram(mib, mib)}, []E820Entry{{0, 4 * mib, Reserved}},
			[]E820Entry{{0, 4 * mib, Reserved}}},
		{"above 4 GiB", []guestmem.Range{ram(mib, mib), ram(1<<32, 1<<30)}, nil,
			[]E820Entry{{mib, mib, RAM}, {1 << 32, 1 << 30, RAM}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := e820(c.ram, c.reserved); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %#x\nwant %#x", got, c.want)
			}
		})
	}
}

func TestZeroPageFieldOffsets(t *testing.T) {
	header := make([]byte, offHdrMin-offHdr)
	for i := range header {
		header[i] = 0xee
	}
	b := zeroPage(header, params{
		rsdp:   0x1122334455,
		initrd: guestmem.Range{GPA: 0x7fff0000, SizeBytes: 0x12345},
		e820:   []E820Entry{{0, 0xa0000, RAM}, {0x100000, 1 << 33, Reserved}},
	})
	for _, f := range []struct {
		field string
		off   int
		size  int
		want  uint64
	}{
		{"acpi_rsdp_addr", 0x070, 8, 0x1122334455},
		{"ext_ramdisk_image", 0x0c0, 4, 0},
		{"ext_ramdisk_size", 0x0c4, 4, 0},
		{"ext_cmd_line_ptr", 0x0c8, 4, 0},
		{"e820_entries", 0x1e8, 1, 2},
		{"sentinel", 0x1ef, 1, 0},
		{"hdr.setup_sects", 0x1f1, 1, 0xee},
		{"hdr.type_of_loader", 0x210, 1, 0xff},
		{"hdr.loadflags", 0x211, 1, 1},
		{"hdr.ramdisk_image", 0x218, 4, 0x7fff0000},
		{"hdr.ramdisk_size", 0x21c, 4, 0x12345},
		{"hdr.cmd_line_ptr", 0x228, 4, 0x4000},
		{"hdr.initrd_addr_max", 0x22c, 4, 0xeeeeeeee},
		{"hdr.xloadflags", 0x236, 2, 0xeeee},
		{"hdr.setup_data", 0x250, 8, 0},
		{"hdr.pref_address", 0x258, 8, 0xeeeeeeeeeeeeeeee},
		{"hdr.init_size", 0x260, 4, 0xeeeeeeee},
		{"what follows hdr", 0x264, 4, 0},
		{"e820_table[0].addr", 0x2d0, 8, 0},
		{"e820_table[0].size", 0x2d8, 8, 0xa0000},
		{"e820_table[0].type", 0x2e0, 4, 1},
		{"e820_table[1].addr", 0x2e4, 8, 0x100000},
		{"e820_table[1].size", 0x2ec, 8, 1 << 33},
		{"e820_table[1].type", 0x2f4, 4, 2},
		{"e820_table[2]", 0x2f8, 8, 0},
	} {
		var got uint64
		for i := f.size - 1; i >= 0; i-- {
			got = got<<8 | uint64(b[f.off+i])
		}
		if got != f.want {
			t.Errorf("%s at %#x is %#x, want %#x", f.field, f.off, got, f.want)
		}
	}

	plain := zeroPage(nil, params{})
	if le16(plain[0x1fe:]) != 0xaa55 || string(plain[0x202:0x206]) != "HdrS" || le16(plain[0x206:]) != 0x20f || le32(plain[0x21c:]) != 0 {
		t.Errorf("generated header for a vmlinux: % x", plain[0x1f1:0x264])
	}
}

func TestStartInfoFieldOffsets(t *testing.T) {
	const gpa = 0x3000
	m := []E820Entry{{0, 0xa0000, RAM}, {0xe0000, 0x1000, ACPIData}}
	b := startInfo(params{rsdp: 0xe0000, e820: m, initrd: guestmem.Range{GPA: 0x7000000, SizeBytes: 99}})
	for _, f := range []struct {
		field string
		off   int
		want  uint64
	}{
		{"magic, version", 0, 0x336ec578 | 1<<32},
		{"flags, nr_modules", 8, 1 << 32},
		{"modlist_paddr", 16, gpa + 56},
		{"cmdline_paddr", 24, 0x4000},
		{"rsdp_paddr", 32, 0xe0000},
		{"memmap_paddr", 40, gpa + 56 + 32},
		{"memmap_entries", 48, 2},
		{"module paddr", 56, 0x7000000},
		{"module size", 64, 99},
		{"module cmdline_paddr", 72, 0},
		{"memmap[0].addr", 88, 0},
		{"memmap[0].size", 96, 0xa0000},
		{"memmap[0].type", 104, 1},
		{"memmap[1].addr", 112, 0xe0000},
		{"memmap[1].type", 128, 3},
	} {
		if got := le64(b[f.off:]); got != f.want {
			t.Errorf("%s at %d is %#x, want %#x", f.field, f.off, got, f.want)
		}
	}
	b = startInfo(params{e820: make([]E820Entry, 128)})
	if len(b) > 4096 || le32(b[12:]) != 0 || le64(b[16:]) != 0 {
		t.Errorf("full map without module: %d bytes", len(b))
	}
}

func TestIdentityMapTranslatesEveryAddressToItself(t *testing.T) {
	const gpa = 0x8000
	b := identityMap()
	entry := func(table uint64, index uint64) uint64 { return le64(b[table-gpa+8*index:]) }
	for _, va := range []uint64{0, 0x1000, 0x2000, 0x8000, 0x1000000, 0x3fffffff, 0x40000000, 0xfee00000, 0xffffffff} {
		e := entry(gpa, va>>39&511)
		e = entry(e&^4095, va>>30&511)
		e = entry(e&^4095, va>>21&511)
		if e&0x83 != 0x83 {
			t.Fatalf("page directory entry for %#x is %#x, want a present, writable 2 MiB page", va, e)
		}
		if pa := e&^(1<<21-1) | va&(1<<21-1); pa != va {
			t.Errorf("%#x is mapped to %#x", va, pa)
		}
	}
	for i, e := range []uint64{entry(gpa, 1), entry(gpa+4096, 4)} {
		if e != 0 {
			t.Errorf("entry beyond 4 GiB in table %d is %#x, want 0", i, e)
		}
	}
}

func TestDescriptorValues(t *testing.T) {
	// As in the GDT of any x86 kernel, with the accessed bit set.
	for name, c := range map[string]struct {
		s    kvm.Segment
		want uint64
	}{
		"64-bit code": {code64, 0x00af9b000000ffff},
		"32-bit code": {code32, 0x00cf9b000000ffff},
		"data":        {flatData, 0x00cf93000000ffff},
		"busy TSS":    {task, 0x00008b0000000067},
		"with base":   {kvm.Segment{Base: 0x12345678, Limit: 0xabcde, Type: 3, Present: 1, S: 1}, 0x120a93345678bcde},
	} {
		if got := descriptor(c.s); got != c.want {
			t.Errorf("%s: %#016x, want %#016x", name, got, c.want)
		}
	}
	var regs kvm.Sregs
	e := linux64Entry(0x1000000)
	e.Apply(&regs)
	b := e.gdt()
	if int(regs.GDT.Limit) != len(b)-1 || le64(b) != 0 || le64(b[regs.CS.Selector:]) != descriptor(code64) || le64(b[regs.SS.Selector:]) != descriptor(flatData) {
		t.Errorf("GDT % x, limit %#x", b, regs.GDT.Limit)
	}
}
