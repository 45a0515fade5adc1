package kvm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"
)

func ringPage(first, last uint32, addrs ...uint64) []byte {
	page := make([]byte, pageSize)
	binary.LittleEndian.PutUint32(page[offRingFirst:], first)
	binary.LittleEndian.PutUint32(page[offRingLast:], last)
	for i, addr := range addrs {
		slot := (int(first) + i) % maxRingEntries
		e := page[offRingEntries+slot*sizeEntry:]
		binary.LittleEndian.PutUint64(e[offEntryAddr:], addr)
		binary.LittleEndian.PutUint32(e[offEntryLen:], 1)
		e[offEntryData] = byte(i)
	}
	return page
}

func TestDrainRing(t *testing.T) {
	for _, test := range []struct {
		name string
		page []byte
		want []string
	}{
		{"empty", ringPage(5, 5), nil},
		{"two", ringPage(0, 2, 10, 11), []string{"10 00", "11 01"}},
		{"around the end", ringPage(maxRingEntries-1, 1, 10, 11), []string{"10 00", "11 01"}},
		{"up to the end", ringPage(maxRingEntries-1, 0, 10), []string{"10 00"}},
	} {
		var got []string
		drain := func(w CoalescedWrite) { got = append(got, fmt.Sprintf("%d %x", w.Addr, w.Data)) }
		drainRing(test.page, drain)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if first, last := test.page[offRingFirst:][:4], test.page[offRingLast:][:4]; !bytes.Equal(first, last) {
			t.Errorf("%s: first is %x, last %x", test.name, first, last)
		}
		got = nil
		drainRing(test.page, drain)
		if len(got) > 0 {
			t.Errorf("%s: a second drain got %q", test.name, got)
		}
	}
}

func TestDrainRingStopsWhileTheRingFills(t *testing.T) {
	page := ringPage(0, 1)
	n := 0
	drainRing(page, func(CoalescedWrite) {
		n++
		last := binary.LittleEndian.Uint32(page[offRingLast:])
		binary.LittleEndian.PutUint32(page[offRingLast:], (last+1)%maxRingEntries)
	})
	if n != maxRingEntries {
		t.Errorf("drained %d writes, want %d", n, maxRingEntries)
	}
}

func FuzzDrainRing(f *testing.F) {
	f.Add(ringPage(0, 2, 10, 11))
	f.Add(ringPage(0xffffffff, 0x12345))
	f.Fuzz(func(t *testing.T, b []byte) {
		page := make([]byte, pageSize)
		copy(page, b)
		n := 0
		drainRing(page, func(w CoalescedWrite) {
			n++
			if len(w.Data) > 8 {
				t.Errorf("%d bytes", len(w.Data))
			}
		})
		if n > maxRingEntries {
			t.Errorf("%d writes", n)
		}
	})
}
