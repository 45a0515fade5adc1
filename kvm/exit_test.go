package kvm

import (
	"encoding/binary"
	"strings"
	"testing"
)

const pageSize = 4096

// runPage builds a struct kvm_run with the given reason and union.
func runPage(reason ExitReason, union ...byte) []byte {
	page := make([]byte, 2*pageSize)
	binary.LittleEndian.PutUint32(page[offExitReason:], uint32(reason))
	copy(page[offUnion:], union)
	return page
}

func words(v ...uint64) (b []byte) {
	for _, w := range v {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func TestExitString(t *testing.T) {
	for _, test := range []struct {
		page []byte
		want string
	}{
		{runPage(ExitIO, words(1|1<<8|0x3f8<<16|2<<32, pageSize)...), "IO write port 0x3f8 size 1 count 2"},
		{runPage(ExitIO, words(0|4<<8|0xcfc<<16|1<<32, pageSize)...), "IO read port 0xcfc size 4 count 1"},
		{runPage(ExitIO, words(1|4<<8|1<<32, 2*pageSize-3)...), "UNKNOWN"},
		{runPage(ExitIO, words(1|4<<8|1<<32, ^uint64(0))...), "UNKNOWN"},
		{runPage(ExitMMIO, words(0xd0000000, 0, 4|1<<32)...), "MMIO write gpa 0xd0000000 length 4"},
		{runPage(ExitMMIO, words(0xd0000000, 0, 8)...), "MMIO read gpa 0xd0000000 length 8"},
		{runPage(ExitMMIO, words(0xd0000000, 0, 9)...), "UNKNOWN"},
		{runPage(ExitFailEntry, words(0x80000021, 3)...), "FAIL_ENTRY hardware reason 0x80000021 on cpu 3"},
		{runPage(ExitInternalError, words(3|2<<32, 5, 6)...), "INTERNAL_ERROR suberror 3 data [0x5 0x6]"},
		{runPage(ExitInternalError, words(3|0xffffffff<<32, 5)...), "INTERNAL_ERROR suberror 3 data [0x5" + strings.Repeat(" 0x0", 15) + "]"},
		{runPage(ExitInternalError, words(1|4<<32, 1, 0xae0f03, 0)...), "INTERNAL_ERROR suberror 1: cannot emulate instruction 0f ae 00"},
		{runPage(ExitInternalError, words(1|4<<32, 1, 0xff, 0)...), "INTERNAL_ERROR suberror 1: cannot emulate instruction" + strings.Repeat(" 00", 15)},
		{runPage(ExitHLT), "HLT"},
		{runPage(ExitShutdown), "SHUTDOWN"},
		{runPage(ExitReason(99)), "exit reason 99"},
	} {
		var e Exit
		e.decode(test.page)
		if got := e.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestExitDataAliasesThePage(t *testing.T) {
	page := runPage(ExitMMIO, words(0xd0000000, 0, 2)...)
	var e Exit
	e.decode(page)
	e.MMIO.Data[1] = 0x77
	if page[offMMIOData+1] != 0x77 {
		t.Error("data filled in by the caller does not reach the page")
	}
	if cap(e.MMIO.Data) != 2 {
		t.Errorf("append to data can overwrite the page: capacity %d", cap(e.MMIO.Data))
	}
}

func FuzzExit(f *testing.F) {
	f.Add(runPage(ExitIO, words(1|1<<8|0x3f8<<16|2<<32, pageSize)...)[:minRun])
	f.Add(runPage(ExitInternalError, words(1|4<<32, 1, 0xff, 0)...)[:minRun])
	f.Fuzz(func(t *testing.T, b []byte) {
		page := make([]byte, 2*pageSize)
		copy(page, b)
		var e Exit
		e.decode(page)
		_ = e.String()
		if len(e.IO.Data) != e.IO.Size*e.IO.Count || len(e.MMIO.Data) > 8 {
			t.Errorf("%v: %d bytes", &e, len(e.IO.Data))
		}
	})
}
