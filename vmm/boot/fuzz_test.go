package boot

import (
	"bytes"
	"io"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/internal/unpack"
)

// FuzzImage checks that on any bytes parsing terminates, unpacking stays within its limits, and an
// accepted image can be planned inside RAM without a panic.
func FuzzImage(f *testing.F) {
	small := smallELF()
	f.Add(small)
	f.Add(small[:100])
	f.Add(packFile(f, "gzip", small))
	for _, c := range []string{"gzip", "zstd", "lz4"} {
		f.Add(testBzImage{payload: pack(f, c, small)}.bytes())
		f.Add(released(pack(f, c, small), "6.1.0"))
	}
	f.Add(append([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46"), noise(40, 2)...))
	f.Add([]byte("BZh91AY&SY"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		head, err := readHead(r, describeHead)
		if err != nil {
			t.Fatal(err)
		}
		if describe(head) == "" {
			t.Error("no description")
		}
		k := &Kernel{path: "fuzz", cmdlineSize: defaultCmdline, initrdMax: defaultInitrdMax}
		data := packedData{codec: unpack.Format(head), size: int64(len(b))}
		switch {
		case isBzImage(head):
			z, err := parseBzImage(head, int64(len(b)))
			if err != nil {
				return
			}
			k.header, k.program = z.header, z.packed()
			checkPlan(t, k)
			if version, err := checkBzImage(r); err == nil && len(version) > maxVersion {
				t.Errorf("a version of %d bytes", len(version))
			}
			if data, err = z.payload(r); err != nil {
				return
			}
		case isELF(head):
			if k.program, err = parseELF(r, int64(len(b))); err == nil {
				checkPlan(t, k)
			}
			return
		case data.codec == "":
			return
		}
		var out bytes.Buffer
		n, err := data.unpack(&out, r)
		if limit := int64(ratioFree + maxRatio*len(b) + 1); n > limit || int64(out.Len()) > limit {
			t.Errorf("%d packed bytes unpack to %d", len(b), out.Len())
		}
		if err != nil {
			return
		}
		if k.program, err = parseELF(bytes.NewReader(out.Bytes()), n); err == nil {
			checkPlan(t, k)
		}
	})
}

// checkPlan plans k in 128 MiB of RAM and checks that everything is inside.
func checkPlan(t *testing.T, k *Kernel) {
	t.Helper()
	if err := k.choose(Auto); err != nil {
		t.Fatalf("accepted image cannot be planned: %v", err)
	}
	const size = 128 << 20
	ram := []guestmem.Range{{GPA: 0, SizeBytes: size}}
	pl, err := k.plan(ram, Params{Cmdline: "x", RSDP: 0xe0000})
	if err != nil {
		return
	}
	for _, s := range pl.program.segments {
		if s.fileSize > s.memSize || s.gpa < LowEnd || uint64(s.gpa) > size || s.memSize > size-uint64(s.gpa) {
			t.Errorf("segment %+v is outside RAM or overlaps", s)
		}
	}
	for _, s := range pl.structures {
		if s.gpa < 0x1000 || s.gpa+guestmem.GPA(len(s.data)) > LowEnd {
			t.Errorf("structure at %#x+%#x is outside the layout", uint64(s.gpa), len(s.data))
		}
	}
	if !pl.program.hasCode(pl.entry.Regs.RIP) {
		t.Errorf("entry %#x is not in the image", pl.entry.Regs.RIP)
	}
}

// FuzzMemoryMap checks that any RAM and reserved ranges give a map that is ascending and disjoint,
// does not contain the hole, and fits both boot structures.
func FuzzMemoryMap(f *testing.F) {
	f.Add(uint64(256<<20), uint64(1<<30), uint64(0xe0000000), uint64(1<<20), uint64(0x9f000), uint64(0x1000), []byte("header"))
	f.Add(uint64(3<<30), uint64(5<<30), uint64(0), uint64(1<<63), uint64(1<<63), uint64(1<<63), []byte(nil))
	f.Fuzz(func(t *testing.T, low, high, r1, n1, r2, n2 uint64, header []byte) {
		ram := []guestmem.Range{{GPA: 0, SizeBytes: 1 + low%fourGiB}, {GPA: fourGiB, SizeBytes: 1 + high>>2}}
		first := E820Entry{guestmem.GPA(r1), 1 + n1>>2, ACPIData}
		second := E820Entry{first.end() + guestmem.GPA(r2>>2), 1 + n2>>2, Reserved}
		if first.end() < first.GPA || second.GPA < first.end() || second.end() < second.GPA {
			return
		}
		m := e820(ram, []E820Entry{second, first})
		for i, e := range m {
			if e.SizeBytes == 0 || e.end() < e.GPA || (i > 0 && e.GPA < m[i-1].end()) {
				t.Errorf("entry %d of %#x is empty, wraps or overlaps", i, m)
			}
			if e.Type == RAM && e.GPA < legacyHoleEnd && e.end() > legacyHoleStart {
				t.Errorf("entry %d of %#x is RAM in the hole", i, m)
			}
		}
		p := params{e820: m, initrd: guestmem.Range{GPA: guestmem.GPA(r1), SizeBytes: n1}}
		if b := zeroPage(header, p); len(b) != zeroPageSize || int(b[offE820Entries]) != len(m) {
			t.Errorf("zero page of %d bytes with %d entries, want %d", len(b), b[offE820Entries], len(m))
		}
		if b := startInfo(p); len(b) > 4096 {
			t.Errorf("start_info of %d bytes", len(b))
		}
	})
}

// Unpacking must stop once the output exceeds the declared size.
func TestUnpackStopsAtTheDeclaredSize(t *testing.T) {
	b := packFile(t, "zstd", noise(1000, 1))
	d := packedData{codec: "zstd", size: int64(len(b)), unpacked: 999}
	if n, err := d.unpack(io.Discard, bytes.NewReader(b)); err == nil || n != 1000 {
		t.Errorf("%d bytes, error %v; want an error at the first excess byte", n, err)
	}
}
