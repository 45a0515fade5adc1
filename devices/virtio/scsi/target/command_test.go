package target

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newFile creates a file of the given size in a directory that is removed with the test.
func newFile(t testing.TB, sizeBytes int64) Store {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(sizeBytes); err != nil {
		t.Fatal(err)
	}
	return NewFile(f)
}

// newTarget creates a target with the units; those without a store get a file.
func newTarget(t testing.TB, units ...Unit) *Target {
	t.Helper()
	for i := range units {
		u := &units[i]
		if u.BlockSize == 0 {
			u.BlockSize = 512
		}
		if u.SizeBytes == 0 {
			u.SizeBytes = 1 << 20
		}
		if u.Store == nil {
			u.Store = newFile(t, int64(u.SizeBytes))
		}
	}
	tg, err := New(units)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, u := range tg.units {
		u.attention.Store(0)
	}
	return tg
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// do sends one command and returns its reply and the in bytes that it filled.
func do(t testing.TB, tg *Target, lun uint16, cdb, out []byte, in int) (Reply, []byte) {
	t.Helper()
	r := &Request{LUN: lun}
	copy(r.CDB[:], cdb)
	if out != nil {
		r.Out = [][]byte{out}
	}
	data := make([]byte, in)
	if in > 0 {
		r.In = [][]byte{data}
	}
	reply, done := tg.Serve(r, false)
	if !done {
		if reply, done = tg.Serve(r, true); !done {
			t.Fatalf("% x: would block although it may wait", cdb)
		}
	}
	return reply, data[:reply.Filled]
}

// senseHex formats sense data: key asc ascq, then the field pointer's bytes and the LBA if they are
// present.
func senseHex(r Reply) string {
	switch {
	case r.Overrun:
		return "overrun"
	case r.Status == Good:
		return ""
	}
	s := hex.EncodeToString([]byte{r.Sense[2], r.Sense[12], r.Sense[13]})
	if r.Sense[15] != 0 {
		s += "@" + hex.EncodeToString(r.Sense[15:18])
	}
	if r.Sense[0]&0x80 != 0 {
		s += ":" + hex.EncodeToString(r.Sense[3:7])
	}
	return s
}

// modeList is a parameter list of MODE SELECT: a header, and a page of the length of the Caching
// page with the given byte 2.
func modeList(header int, code, flags byte) []byte {
	p := make([]byte, header+20)
	p[header], p[header+1], p[header+2], p[header+12] = code, 0x12, flags, 0x20
	return p
}

// TestCommands checks the answer of every command: data as hexadecimal prefix, or sense data as
// formatted by senseHex. Unit 0 has 2048 blocks of 512 bytes, unit 1 is read-only, unit 2 has 256
// blocks of 4096 bytes and is write-through.
func TestCommands(t *testing.T) {
	tg := newTarget(t, Unit{Serial: "0123456789abcdef0123456789abcdef", Granularity: 4096}, Unit{ReadOnly: true, Serial: "ro-1"}, Unit{BlockSize: 4096, Writethrough: true, Serial: "thru"})
	block := bytes.Repeat([]byte{0xab}, 512)
	for _, tc := range []struct {
		name  string
		lun   uint16
		cdb   string
		out   []byte
		in    int
		want  string // data
		sense string
		n     int // bytes filled; 0: any
	}{
		{"TEST UNIT READY", 0, "00", nil, 0, "", "", 0},
		{"TEST UNIT READY of no unit", 3, "00", nil, 0, "", "052500", 0},
		{"NACA", 0, "000000000004", nil, 0, "", "052400@c00005", 0},
		{"unknown opcode", 0, "ff", nil, 0, "", "052000@c00000", 0},
		{"unknown opcode of no unit", 3, "ff", nil, 0, "", "052500", 0},
		{"COMPARE AND WRITE", 0, "89", nil, 0, "", "052000@c00000", 0},
		{"PERSISTENT RESERVE IN", 0, "5e", nil, 0, "", "052000@c00000", 0},
		{"unknown service action", 0, "9e1f", nil, 32, "", "052400@c00001", 0},

		{"INQUIRY", 0, "120000006000", nil, 96, "0000 0602 5b00 0002" + hex.EncodeToString([]byte("LIO-ORG minivmm disk    4.0 ")), "", 96},
		{"INQUIRY, cut", 0, "120000000500", nil, 5, "000006025b", "", 5},
		{"INQUIRY of no unit", 9, "120000002400", nil, 36, "7f00", "", 36},
		{"INQUIRY, buffer is short", 0, "120000006000", nil, 20, "", "overrun", 0},
		{"INQUIRY with a page and no EVPD", 0, "120083006000", nil, 96, "", "052400@c00002", 0},
		{"INQUIRY of no page", 0, "1201c0006000", nil, 96, "", "052400@c00002", 0},
		{"VPD 00", 0, "12010000ff00", nil, 255, "00000006 008083b0b1b2", "", 10},
		{"VPD 80", 1, "12018000ff00", nil, 255, "00800004" + hex.EncodeToString([]byte("ro-1")), "", 8},
		{"VPD 83", 0, "12018300ff00", nil, 255, "0083 004d 01030010 6001405 0123456789abcdef012345678 02010035" + hex.EncodeToString([]byte("LIO-ORG minivmm disk:0123456789abcdef0123456789abcdef")), "", 0},
		{"VPD 83 of few digits", 1, "12018300ff00", nil, 255, "0083 0031 01030010 60014051000000000000000000000000", "", 53},
		{"VPD B0", 0, "1201b000ff00", nil, 255, "00b0003c 0100 0000 00004000 00000000 00000000 00400000 00000040 00000008 00000000 0000000000010000", "", 64},
		{"VPD B0, read-only", 1, "1201b000ff00", nil, 255, "00b0003c 0100 0000 00004000 00000000 00000000 00000000 00000000 00000000", "", 64},
		{"VPD B1", 0, "1201b100ff00", nil, 255, "00b1003c 0001", "", 64},
		{"VPD B2", 0, "1201b200ff00", nil, 255, "00b20004 00e40200", "", 8},
		{"VPD B2, read-only", 1, "1201b200ff00", nil, 255, "00b20004 00000000", "", 8},

		{"REQUEST SENSE", 0, "030000001200", nil, 18, "700000000000000a", "", 18},
		{"REQUEST SENSE, descriptors", 0, "030100001200", nil, 18, "7200000000000000", "", 8},
		{"REQUEST SENSE of no unit", 9, "030000001200", nil, 18, "700005000000000a 00000000 25", "", 18},

		{"READ CAPACITY (10)", 0, "25", nil, 8, "000007ff 00000200", "", 8},
		{"READ CAPACITY (10), 4096", 2, "25", nil, 8, "000000ff 00001000", "", 8},
		{"READ CAPACITY (10) with an LBA", 0, "2500 00000001", nil, 8, "", "052400@c00002", 0},
		{"READ CAPACITY (16)", 0, "9e10 0000000000000000 00000020", nil, 32, "00000000000007ff 00000200 0000 c000", "", 32},
		{"READ CAPACITY (16), read-only", 1, "9e10 0000000000000000 0000000f", nil, 15, "00000000000007ff 00000200 0000 00", "", 15},

		{"MODE SENSE (6), all", 0, "1a003f00ff00", nil, 255, "43001008 0000080000000200 010a 00000000000000000000 0812 04", "", 68},
		{"MODE SENSE (6), caching, DBD", 0, "1a080800ff00", nil, 255, "17001000 0812 0400", "", 24},
		{"MODE SENSE (6), caching, write-through", 2, "1a080800ff00", nil, 255, "17001000 0812 0000", "", 24},
		{"MODE SENSE (6), control, read-only", 1, "1a080a00ff00", nil, 255, "0f009000 0a0a 0210", "", 16},
		{"MODE SENSE (6), changeable", 0, "1a084800ff00", nil, 255, "17001000 0812 0400", "", 24},
		{"MODE SENSE (6), saved", 0, "1a08c800ff00", nil, 255, "", "053900", 0},
		{"MODE SENSE (6), no such page", 0, "1a080200ff00", nil, 255, "", "052400@c00002", 0},
		{"MODE SENSE (6), no such subpage", 0, "1a080801ff00", nil, 255, "", "052400@c00003", 0},
		{"MODE SENSE (6), caching, changeable, write-through", 2, "1a084800ff00", nil, 255, "17001000 0812 0000", "", 24},
		{"MODE SELECT (6), cache off", 0, "151000001800", modeList(4, 0x08, 0), 0, "", "", 0},
		{"MODE SENSE (6), current value", 0, "1a080800ff00", nil, 255, "17001000 0812 0000", "", 24},
		{"MODE SENSE (6), default value", 0, "1a088800ff00", nil, 255, "17001000 0812 0400", "", 24},
		{"MODE SELECT (10), cache on", 0, "5510000000000000 1c00", modeList(8, 0x08, 4), 0, "", "", 0},
		{"MODE SENSE (6), current value again", 0, "1a080800ff00", nil, 255, "17001000 0812 0400", "", 24},
		{"MODE SELECT (6), RCD", 0, "151000001800", modeList(4, 0x08, 5), 0, "", "052600@800006", 0},
		{"MODE SELECT (6), cache on, write-through", 2, "151000001800", modeList(4, 0x08, 4), 0, "", "052600@800006", 0},
		{"MODE SELECT (6), saved", 0, "151100001800", modeList(4, 0x08, 0), 0, "", "052400@c00001", 0},
		{"MODE SELECT (6), no such page", 0, "151000001800", modeList(4, 0x02, 0), 0, "", "052600@800004", 0},
		{"MODE SELECT (6), half a page", 0, "151000001700", modeList(4, 0x08, 0), 0, "", "051a00", 0},
		{"MODE SELECT (6), data is short", 0, "151000001900", modeList(4, 0x08, 0), 0, "", "overrun", 0},
		{"MODE SELECT (6), descriptors beyond", 0, "151000000400", []byte{0, 0, 0, 8}, 0, "", "051a00", 0},
		{"MODE SELECT (6), block size", 0, "151000000c00", unhex(t, "00000008 0000080000000400"), 0, "", "052600@800004", 0},
		{"MODE SELECT (6), block size unchanged", 0, "151000000c00", unhex(t, "00000008 0000080000000200"), 0, "", "", 0},
		{"MODE SELECT (6) of nothing", 0, "151000000000", nil, 0, "", "", 0},
		{"MODE SENSE (10), long", 0, "5a100800000000 00ff00", nil, 255, "002a 0010 0100 0010 0000000000000800 00000000 00000200 0812", "", 44},
		{"MODE SENSE (10), short", 0, "5a000800000000 00ff00", nil, 255, "0022 0010 0000 0008 00000800 00000200 0812", "", 36},

		{"REPORT LUNS", 0, "a00000000000 00000100 0000", nil, 256, "00000018 00000000 0000000000000000 0001000000000000 0002000000000000", "", 32},
		{"REPORT LUNS of no unit", 77, "a00002000000 00000100 0000", nil, 256, "00000018", "", 32},
		{"REPORT LUNS, well known", 0, "a00001000000 00000100 0000", nil, 256, "00000000", "", 8},
		{"REPORT LUNS, allocation length too small", 0, "a00000000000 0000000f 0000", nil, 16, "", "052400@c00006", 0},
		{"REPORT LUNS, no such report", 0, "a00010000000 00000100 0000", nil, 256, "", "052400@c00002", 0},

		{"REPORT SUPPORTED OPERATION CODES, one", 0, "a30c 01 12 0000 000000ff 0000", nil, 255, "00030006 1201ffffff04", "", 10},
		{"REPORT SUPPORTED OPERATION CODES, none", 0, "a30c 01 89 0000 000000ff 0000", nil, 255, "00010000", "", 4},
		{"REPORT SUPPORTED OPERATION CODES, action", 0, "a30c 02 9e 0010 000000ff 0000", nil, 255, "00030010 9e10", "", 20},
		{"REPORT SUPPORTED OPERATION CODES, action left out", 0, "a30c 01 9e 0000 000000ff 0000", nil, 255, "", "052400@c00002", 0},
		{"REPORT SUPPORTED OPERATION CODES, action too many", 0, "a30c 02 12 0000 000000ff 0000", nil, 255, "", "052400@c00002", 0},
		{"REPORT SUPPORTED OPERATION CODES, either", 0, "a30c 03 12 0000 000000ff 0000", nil, 255, "00030006", "", 10},
		{"REPORT SUPPORTED OPERATION CODES, timeouts", 0, "a30c 81 12 0000 000000ff 0000", nil, 255, "00830006 1201ffffff04 000a", "", 22},
		{"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 0, "a30d 00000000 00000010 0000", nil, 16, "dc030000", "", 4},
		{"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, allocation length too small", 0, "a30d 00000000 00000003 0000", nil, 16, "", "052400@c00006", 0},

		{"READ (6) of the last", 0, "080007ff0100", nil, 512, "", "", 512},
		{"READ (6), 0 is 256", 0, "080000000000", nil, 131072, "", "", 131072},
		{"READ (6) beyond", 0, "080008000100", nil, 512, "", "052100:00000800", 0},
		{"READ (10) across the end", 0, "2800 000007ff 00 0002 00", nil, 1024, "", "052100:00000800", 0},
		{"READ (10) of nothing", 0, "2800 00000000 00 0000 00", nil, 0, "", "", 0},
		{"READ (10) of nothing at the end", 0, "2800 00000800 00 0000 00", nil, 0, "", "052100:00000800", 0},
		{"READ (10) with RDPROTECT", 0, "2820 00000000 00 0001 00", nil, 512, "", "052400@c00001", 0},
		{"READ (12)", 0, "a800 00000000 00000001 0000", nil, 512, "", "", 512},
		{"READ (16) far beyond", 0, "8800 ffffffffffffffff 00000001 0000", nil, 512, "", "052100", 0},
		{"READ (16) that wraps", 0, "8800 0000000000000001 ffffffff 0000", nil, 512, "", "052100:00000800", 0},
		{"READ (10), buffer is short", 0, "2800 00000000 00 0002 00", nil, 1023, "", "overrun", 0},
		{"WRITE (10), data is short", 0, "2a00 00000000 00 0001 00", block[:511], 0, "", "overrun", 0},
		{"WRITE (6)", 0, "0a0000070100", block, 0, "", "", 0},
		{"READ (16) of it", 0, "8800 0000000000000007 00000001 0000", nil, 512, "abababab", "", 512},
		{"WRITE (10) with FUA", 0, "2a08 00000008 00 0001 00", block, 0, "", "", 0},
		{"WRITE (12)", 0, "aa00 00000009 00000001 0000", block, 0, "", "", 0},
		{"WRITE (16) beyond", 0, "8a00 0000000000000800 00000001 0000", block, 0, "", "052100:00000800", 0},
		{"WRITE (10), read-only", 1, "2a00 00000000 00 0001 00", block, 0, "", "072700", 0},
		{"UNMAP, read-only", 1, "4200 00000000 00 0018 00", make([]byte, 24), 0, "", "072700", 0},
		{"WRITE SAME (16), read-only", 1, "9301 0000000000000000 00000001 0000", nil, 0, "", "072700", 0},

		{"VERIFY (10) of a range", 0, "2f00 00000000 00 0010 00", nil, 0, "", "", 0},
		{"VERIFY (10) beyond", 0, "2f00 000007ff 00 0010 00", nil, 0, "", "052100:00000800", 0},
		{"VERIFY (16) of nothing", 0, "8f00 0000000000000007 00000000 0000", nil, 0, "", "", 0},
		{"VERIFY (10) with data", 0, "2f02 00000007 00 0001 00", block, 0, "", "", 0},
		{"VERIFY (16) of other data", 0, "8f02 0000000000000007 00000002 0000", append(bytes.Clone(block), append(bytes.Clone(block[:500]), make([]byte, 12)...)...), 0, "", "0e1d00:000003f4", 0},
		{"VERIFY (10), BYTCHK 10b", 0, "2f04 00000007 00 0001 00", block, 0, "", "052400@c00001", 0},

		{"SYNCHRONIZE CACHE (10)", 0, "3500 00000000 00 0000 00", nil, 0, "", "", 0},
		{"SYNCHRONIZE CACHE (16) beyond", 0, "9100 0000000000000801 00000000 0000", nil, 0, "", "052100:00000801", 0},
		{"SYNCHRONIZE CACHE (10), read-only", 1, "3500 00000000 00 0000 00", nil, 0, "", "", 0},

		{"WRITE SAME (10)", 0, "4100 00000010 00 0004 00", block, 0, "", "", 0},
		{"READ (10) of the last one and the next", 0, "2800 00000013 00 0002 00", nil, 1024, "abab", "", 1024},
		{"WRITE SAME (16), NDOB and UNMAP", 0, "9309 0000000000000010 00000004 0000", nil, 0, "", "", 0},
		{"READ (10) of one", 0, "2800 00000013 00 0001 00", nil, 512, "00000000", "", 512},
		{"WRITE SAME (10) of nothing", 0, "4100 00000010 00 0000 00", block, 0, "", "052400@c00007", 0},
		{"WRITE SAME (16) of nothing", 0, "9301 0000000000000010 00000000 0000", nil, 0, "", "052400@c0000a", 0},
		{"WRITE SAME (10), ANCHOR", 0, "4118 00000010 00 0001 00", block, 0, "", "052400@c00001", 0},
		{"WRITE SAME (10), LBDATA", 0, "4102 00000010 00 0001 00", block, 0, "", "052400@c00001", 0},
		{"WRITE SAME (16), data is short", 0, "9300 0000000000000010 00000001 0000", block[:100], 0, "", "overrun", 0},

		{"UNMAP", 0, "4200 00000000 00 0018 00", unhex(t, "0016 0010 00000000 0000000000000007 00000003 00000000"), 0, "", "", 0},
		{"READ (10) of freed blocks", 0, "2800 00000007 00 0003 00", nil, 1536, "0000", "", 1536},
		{"UNMAP of nothing", 0, "42", nil, 0, "", "", 0},
		{"UNMAP, short list", 0, "4200 00000000 00 0007 00", make([]byte, 7), 0, "", "051a00", 0},
		{"UNMAP, data is short", 0, "4200 00000000 00 0018 00", make([]byte, 23), 0, "", "overrun", 0},
		{"UNMAP, ANCHOR", 0, "4201 00000000 00 0018 00", make([]byte, 24), 0, "", "052400@c00001", 0},
		{"UNMAP beyond", 0, "4200 00000000 00 0018 00", unhex(t, "0016 0010 00000000 00000000000007ff 00000002 00000000"), 0, "", "052100:00000800", 0},
		{"UNMAP, too many ranges", 0, "4200 00000000 00 0418 00", append(unhex(t, "0416 0410 00000000"), make([]byte, 65*16)...), 0, "", "052600@800002", 0},

		{"START STOP UNIT, eject", 0, "1b0000000200", nil, 0, "", "052400@c00004", 0},
		{"START STOP UNIT, standby", 0, "1b0000003000", nil, 0, "", "052400@c00004", 0},
		{"START STOP UNIT, stop", 0, "1b0000000000", nil, 0, "", "", 0},
		{"READ (10) when stopped", 0, "2800 00000000 00 0001 00", nil, 512, "", "020402", 0},
		{"REQUEST SENSE when stopped", 0, "030000001200", nil, 18, "700002000000000a 00000000 0402", "", 18},
		{"START STOP UNIT, start", 0, "1b0000000100", nil, 0, "", "", 0},
		{"TEST UNIT READY when started", 0, "00", nil, 0, "", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reply, data := do(t, tg, tc.lun, unhex(t, tc.cdb), tc.out, tc.in)
			if got := senseHex(reply); got != tc.sense {
				t.Fatalf("sense %q, want %q", got, tc.sense)
			}
			if tc.sense == "" && !bytes.HasPrefix(data, unhex(t, tc.want)) || tc.n > 0 && len(data) != tc.n {
				t.Errorf("%d bytes % x, want %d, % x", len(data), data[:min(64, len(data))], tc.n, unhex(t, tc.want))
			}
		})
	}
}

func TestUnitAttention(t *testing.T) {
	tg := newTarget(t, Unit{Serial: "1"})
	tg.PowerOn()
	tg.ResetUnit(0)
	for i, want := range []struct{ cdb, sense string }{
		{"120000002400", ""}, {"a00000000000000001000000", ""}, {"00", "062900"}, {"2800000000000000010000", "062903"}, {"00", ""},
	} {
		if reply, _ := do(t, tg, 0, unhex(t, want.cdb), nil, 512); senseHex(reply) != want.sense {
			t.Errorf("command %d: sense %q, want %q", i, senseHex(reply), want.sense)
		}
	}
	tg.PowerOn()
	if reply, data := do(t, tg, 0, unhex(t, "030000001200"), nil, 18); reply.Status != Good || data[2] != 6 || data[12] != 0x29 {
		t.Errorf("REQUEST SENSE: % x", data)
	}
	if reply, _ := do(t, tg, 0, unhex(t, "00"), nil, 0); senseHex(reply) != "" {
		t.Errorf("after it: %q", senseHex(reply))
	}
}

// TestAVerificationHasTheLimitOfARead checks the limit that VPD page B0h reports.
func TestAVerificationHasTheLimitOfARead(t *testing.T) {
	tg := newTarget(t, Unit{SizeBytes: 2 * maxTransferBytes, Serial: "1"})
	for cdb, want := range map[string]string{
		"8f00 0000000000000000 00004000 0000": "",
		"8f00 0000000000000000 00004001 0000": "052400@c0000a",
	} {
		if reply, _ := do(t, tg, 0, unhex(t, cdb), nil, 0); senseHex(reply) != want {
			t.Errorf("%s: sense %q, want %q", cdb, senseHex(reply), want)
		}
	}
}
