package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
)

func TestRequestsComeBackAnswered(t *testing.T) {
	for name, features := range each {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 8, features)
			r.serve(features, upper)
			in, out := r.bufs, r.bufs+0x1000
			for i := range 1000 {
				text := fmt.Sprintf("request %d", i)
				copy(r.bytes(in, 64), text)
				chain := []queuetest.Desc{{GPA: in, Len: 3}, {GPA: in + 3, Len: uint32(len(text) - 3)}, {GPA: out, Len: 1, Flags: queuetest.Write}, {GPA: out + 1, Len: 99, Flags: queuetest.Write}}
				var head uint16
				if features.Has(indirect) && i%2 == 0 {
					head = r.AddIndirect(r.bufs+0x2000, chain...)
				} else {
					head = r.Add(chain...)
				}
				r.Kick()
				u, err := r.WaitUsed(long)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := string(r.bytes(out, len(text))), strings.ToUpper(text); u.ID != uint32(head) || u.Len != uint32(len(text)) || got != want {
					t.Fatalf("request %d: %+v %q, want head %d and %q", i, u, got, head, want)
				}
			}
		})
	}
}

// The ring is always full, and kicks and interrupts are sent only on request: a lost one would end
// in a timeout.
func TestNoKickAndNoInterruptIsLostUnderLoad(t *testing.T) {
	for name, features := range each {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 16, features)
			r.serve(features, upper)
			rnd := rand.New(rand.NewPCG(5, 6))
			kicks, out := 0, 0
			for done := 0; done < 20000; {
				for n := rnd.IntN(8); n >= 0 && out < 16; n-- {
					r.Add(queuetest.Desc{GPA: r.bufs, Len: 64, Flags: queuetest.Write})
					out++
				}
				if r.Kick() {
					kicks++
				}
				r.WantInterrupts(false)
				for n := rnd.IntN(8); n >= 0 && out > 0; n-- {
					if _, err := r.WaitUsed(long); err != nil {
						t.Fatalf("after %d requests and %d kicks: %v", done, kicks, err)
					}
					done, out = done+1, out-1
				}
			}
			t.Logf("%d kicks for 20000 requests", kicks)
		})
	}
}

func TestADriverThatWantsNoInterruptsGetsNone(t *testing.T) {
	for name, features := range each {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 8, features)
			q := r.open(features)
			turn := func() {
				t.Helper()
				r.Add(queuetest.Desc{GPA: r.bufs, Len: 8, Flags: queuetest.Write})
				var c queue.Chain
				if ok, err := q.Next(&c); !ok || err != nil {
					t.Fatalf("no chain: %v", err)
				}
				if err := q.Done(&c, 0); err != nil {
					t.Fatal(err)
				}
				if err := q.Signal(); err != nil {
					t.Fatal(err)
				}
				if _, ok := r.Used(); !ok {
					t.Fatal("no chain was returned")
				}
			}
			for i := range 70000 { // beyond the wrap-around of the indexes
				want := i%5 != 0
				r.WantInterrupts(want)
				turn()
				if got := r.q.Call.Drain(); got != want {
					t.Fatalf("chain %d: interrupt %t, wanted %t", i, got, want)
				}
			}
			r.WantInterrupts(true)
			if err := q.Signal(); err != nil || r.q.Call.Pending() {
				t.Errorf("an interrupt without a chain: %v", err)
			}
		})
	}
}

func TestChainsAvailableBeforeServeAreServed(t *testing.T) {
	r := newRig(t, 8, 0)
	for range 8 {
		r.Add(queuetest.Desc{GPA: r.bufs, Len: 8, Flags: queuetest.Write})
	}
	stop := r.serve(0, upper)
	for range 8 {
		if _, err := r.WaitUsed(long); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServeStopsThoughTheDriverNeverDoes(t *testing.T) {
	r := newRig(t, 8, 0)
	q := r.open(0)
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	add := func() { r.Add(queuetest.Desc{GPA: r.bufs, Len: 8, Flags: queuetest.Write}) }
	add()
	err := q.Serve(ctx, func(c *queue.Chain) (uint32, error) {
		if n++; n == 1000 {
			cancel()
		}
		r.Used()
		add()
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) || n != 1000 {
		t.Errorf("Serve returned %v after %d", err, n)
	}
}

func TestChainsComeBackInAnyOrderButOnce(t *testing.T) {
	r := newRig(t, 8, 0)
	q := r.open(0)
	var chains [3]queue.Chain
	var heads [3]uint16
	for i := range chains {
		heads[i] = r.Add(queuetest.Desc{GPA: r.bufs, Len: 8, Flags: queuetest.Write})
		if ok, err := q.Next(&chains[i]); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for _, i := range []int{2, 0, 1} {
		if err := q.Done(&chains[i], uint32(i)); err != nil {
			t.Fatal(err)
		}
		if u, ok := r.Used(); !ok || u != (queuetest.Used{ID: uint32(heads[i]), Len: uint32(i)}) {
			t.Errorf("%+v, want head %d", u, heads[i])
		}
	}
	if err := q.Done(&chains[0], 0); err == nil || r.UsedIdx() != 3 {
		t.Errorf("done twice: %v, used.idx %d", err, r.UsedIdx())
	}
}

func TestChainsOfOnePacketComeBackTogetherOrNotAtAll(t *testing.T) {
	r := newRig(t, 4, 0)
	q := r.open(0)
	var heads [3]uint16
	take := func() []queue.Chain {
		chains := make([]queue.Chain, len(heads))
		for i := range chains {
			heads[i] = r.Add(queuetest.Desc{GPA: r.bufs, Len: 8, Flags: queuetest.Write})
			if ok, err := q.Next(&chains[i]); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		return chains
	}
	for range 3 { // around the ring more than once
		if err := q.DoneTogether(take(), []uint32{8, 8, 1}); err != nil {
			t.Fatal(err)
		}
		for i, n := range []uint32{8, 8, 1} {
			if u, ok := r.Used(); !ok || u != (queuetest.Used{ID: uint32(heads[i]), Len: n}) {
				t.Errorf("%+v, %v, want head %d", u, ok, heads[i])
			}
		}
	}
	if err := q.DoneTogether(take(), []uint32{8, 8, 9}); err == nil || r.UsedIdx() != 9 {
		t.Errorf("9 bytes in a buffer of 8: %v, used.idx %d", err, r.UsedIdx())
	}
}

func TestEmptyDescriptorsAreLegalAnywhere(t *testing.T) {
	r := newRig(t, 8, 0)
	q := r.open(0)
	copy(r.bytes(r.bufs, 2), "ab")
	r.Add(queuetest.Desc{GPA: 1}, queuetest.Desc{GPA: r.bufs, Len: 2}, queuetest.Desc{GPA: 1 << 60, Flags: queuetest.Write})
	var c queue.Chain
	if ok, err := q.Next(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if c.Readable.Len() != 2 || c.Writable.Len() != 0 {
		t.Errorf("%d readable, %d writable", c.Readable.Len(), c.Writable.Len())
	}
}

// The same request, split at random: the boundaries have no meaning.
func TestHowARequestIsSplitDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	text := []byte("the quick brown fox jumps over the lazy dog")
	for range 500 {
		r := newRig(t, 64, indirect)
		copy(r.bytes(r.bufs, len(text)), text)
		cut := func(gpa guestmem.GPA, flags uint16) (chain []queuetest.Desc) {
			for at := 0; at < len(text); {
				n := 1 + rnd.IntN(min(9, len(text)-at))
				chain = append(chain, queuetest.Desc{GPA: gpa + guestmem.GPA(at), Len: uint32(n), Flags: flags})
				at += n
			}
			return chain
		}
		chain := append(cut(r.bufs, 0), cut(r.bufs+0x1000, queuetest.Write)...)
		if len(chain) > 64 {
			continue
		}
		if rnd.IntN(2) == 0 {
			r.Add(chain...)
		} else {
			r.AddIndirect(r.bufs+0x2000, chain...)
		}
		q := r.open(indirect)
		var c queue.Chain
		if ok, err := q.Next(&c); !ok || err != nil {
			t.Fatal(ok, err)
		}
		head := make([]byte, 4)
		c.Readable.Read(head)
		rest := c.Readable.Take(100)
		p := make([]byte, rest.Len())
		rest.Read(p)
		if got := string(head) + string(p); got != string(text) || c.Readable.Len() != 0 {
			t.Fatalf("read %q", got)
		}
		if n := c.Writable.Write(text); n != len(text) || !bytes.Equal(r.bytes(r.bufs+0x1000, n), text) {
			t.Fatalf("wrote %d bytes: %q", n, r.bytes(r.bufs+0x1000, n))
		}
	}
}
