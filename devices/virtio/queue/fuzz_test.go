package queue_test

import (
	"encoding/binary"
	"reflect"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
)

// Two pages of RAM that the fuzzer fills, with a hole between them. The ring of 16 entries is at
// the start of the first page.
const (
	fuzzBase = 0x4000
	fuzzSize = 16
)

// FuzzSplit serves the ring in a RAM of random bytes. The only allowed results are an error and
// chains that are short, inside RAM and returned once. The first byte selects features, the rest is
// RAM.
func FuzzSplit(f *testing.F) {
	mem, err := guestmem.New([]guestmem.Range{{GPA: fuzzBase, SizeBytes: 0x1000}, {GPA: fuzzBase + 0x2000, SizeBytes: 0x1000}})
	if err != nil {
		f.Fatal(err)
	}
	kick, err := virtio.NewNotifier("kick")
	if err != nil {
		f.Fatal(err)
	}
	call, err := virtio.NewNotifier("call")
	if err != nil {
		f.Fatal(err)
	}
	defer mem.Close()
	defer kick.Close()
	defer call.Close()
	layout, _ := queuetest.Layout(fuzzBase, fuzzSize)
	layout.Kick, layout.Call = kick, call

	for _, seed := range seeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var features virtio.Features
		if len(data) > 0 {
			features = virtio.Features(data[0]&3) << 28
			data = data[1:]
		}
		for _, r := range mem.Regions() {
			clear(r.Bytes)
			n := copy(r.Bytes, data)
			data = data[n:]
		}
		q, err := queue.Open(mem, layout, features)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		used := mem.Regions()[0].Bytes[layout.Device-fuzzBase:]
		var broken error
		given := 0
		// The available index can be ahead by at most the queue size, so more chains than that
		// cannot be valid.
		for range fuzzSize + 1 {
			var c queue.Chain
			ok, err := q.Next(&c)
			if err != nil {
				broken = err
				break
			}
			if !ok {
				break
			}
			if given++; given > fuzzSize {
				t.Fatal("more chains than entries")
			}
			if len(c.Readable)+len(c.Writable) > fuzzSize {
				t.Fatalf("a chain of %d buffers", len(c.Readable)+len(c.Writable))
			}
			for _, bufs := range []queue.Buffers{c.Readable, c.Writable} {
				for _, b := range bufs {
					if !inside(mem, b) {
						t.Fatalf("a buffer of %d bytes is not in RAM", len(b))
					}
				}
			}
			room := c.Writable.Len()
			if room > 0x2000*fuzzSize {
				t.Fatalf("room for %d bytes", room)
			}
			c.Readable.Read(make([]byte, c.Readable.Len()))
			// Done chains may overwrite the ring itself.
			c.Writable.Write(make([]byte, min(room, 32)))
			if err := q.Done(&c, uint32(min(room, 32))); err != nil {
				t.Fatalf("done: %v", err)
			}
			if got := guestmem.Load16(used, 2); int(got) != given {
				t.Fatalf("used.idx %d after %d chains", got, given)
			}
			if err := q.Signal(); err != nil {
				t.Fatal(err)
			}
			call.Drain()
		}
		if broken != nil {
			var c queue.Chain
			if ok, err := q.Next(&c); ok || err != broken {
				t.Fatalf("the error was not latched: %v", err)
			}
		}
	})
}

// inside compares addresses, the only way to determine whether b is RAM.
func inside(mem *guestmem.Memory, b []byte) bool {
	from := reflect.ValueOf(b).Pointer()
	for _, r := range mem.Regions() {
		if from >= r.HVA() && from+uintptr(len(b)) <= r.HVA()+uintptr(len(r.Bytes)) {
			return true
		}
	}
	return false
}

// image is RAM that contains a ring, as a seed for the fuzzer.
type image []byte

func newImage(features virtio.Features) image {
	b := make(image, 1+0x2000)
	b[0] = byte(features >> 28)
	return b
}

func (b image) desc(i int, gpa guestmem.GPA, len uint32, flags, next uint16) image {
	p := b[1+16*i:]
	binary.LittleEndian.PutUint64(p, uint64(gpa))
	binary.LittleEndian.PutUint32(p[8:], len)
	binary.LittleEndian.PutUint16(p[12:], flags)
	binary.LittleEndian.PutUint16(p[14:], next)
	return b
}

func (b image) avail(heads ...uint16) image {
	p := b[1+16*fuzzSize:]
	for i, h := range heads {
		binary.LittleEndian.PutUint16(p[4+2*i:], h)
	}
	binary.LittleEndian.PutUint16(p[2:], uint16(len(heads)))
	return b
}

// seeds are shapes that a fuzzer would take long to find.
func seeds() map[string][]byte {
	const next, write, indirect = queuetest.Next, queuetest.Write, queuetest.Indirect
	buf := guestmem.GPA(fuzzBase + 0x800)
	return map[string][]byte{
		"empty":             nil,
		"request":           newImage(0).desc(0, buf, 8, next, 1).desc(1, buf+8, 64, write, 0).avail(0),
		"three-requests":    newImage(eventIdx).desc(0, buf, 8, write, 0).desc(1, buf, 8, write, 0).desc(2, buf, 0, 0, 0).avail(2, 0, 1),
		"loop":              newImage(0).desc(0, buf, 8, next, 1).desc(1, buf, 8, next, 0).avail(0),
		"same-head":         newImage(0).desc(3, buf, 8, write, 0).avail(3, 3, 3),
		"indirect":          newImage(virtio.FeatureRingIndirectDesc).desc(0, fuzzBase+64, 48, indirect, 0).desc(4, buf, 8, next, 1).desc(5, buf, 8, next|write, 2).desc(6, buf, 8, write, 0).avail(0),
		"indirect-nested":   newImage(virtio.FeatureRingIndirectDesc).desc(0, fuzzBase+64, 16, indirect, 0).desc(4, fuzzBase+64, 16, indirect, 0).avail(0),
		"across-the-hole":   newImage(0).desc(0, fuzzBase+0xff8, 16, write, 0).avail(0),
		"wraps":             newImage(0).desc(0, ^guestmem.GPA(7), 16, write, 0).avail(0),
		"over-the-ring":     newImage(0).desc(0, fuzzBase, 0x1000, write, 0).avail(0, 0, 0, 0),
		"readable-too-late": newImage(0).desc(0, buf, 8, next|write, 1).desc(1, buf, 8, 0, 0).avail(0),
		"index-jumps":       newImage(0).avail(make([]uint16, 17)...),
		"second-region":     newImage(0).desc(0, fuzzBase+0x2000, 0x1000, write, 0).avail(0),
	}
}
