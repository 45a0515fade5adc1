package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// gate is a writer that blocks until it is opened.
type gate struct {
	open    chan struct{}
	entered chan struct{} // closed when a write is blocked
	once    sync.Once
	got     bytes.Buffer
}

func newGate() *gate { return &gate{open: make(chan struct{}), entered: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.entered) })
	<-g.open
	return g.got.Write(p)
}

func TestRingDeliversEverythingInOrder(t *testing.T) {
	var got, want bytes.Buffer
	r := newRing(&got, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 2))
	for want.Len() < 900<<10 {
		p := make([]byte, rnd.IntN(3000))
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		want.Write(p)
		if n, err := r.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write took %d of %d: %v", n, len(p), err)
		}
	}
	if lost, err := r.Close(time.Minute); lost != 0 || err != nil {
		t.Fatalf("lost %d, %v", lost, err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("the output differs from what was written")
	}
}

func TestRingDropsAndCountsTheOldestWhenItsReaderIsBlocked(t *testing.T) {
	g := newGate()
	r := newRing(g, 10)
	r.Write([]byte("first"))
	<-g.entered // the drain holds "first" now, and the ring is empty
	for _, s := range []string{"abcd", "efgh", "ijkl"} {
		r.Write([]byte(s)) // 12 bytes: ab is dropped
	}
	r.Write([]byte(strings.Repeat("-", 15) + "0123456789")) // all but the last ten are dropped
	close(g.open)
	if lost, err := r.Close(time.Minute); lost != 2+10+15 || err != nil {
		t.Errorf("lost %d, %v; want 27", lost, err)
	}
	if got := g.got.String(); got != "first0123456789" {
		t.Errorf("got %q", got)
	}
}

func TestRingCloseDoesNotWaitForABlockedReader(t *testing.T) {
	g := newGate()
	r := newRing(g, 100)
	r.Write([]byte("held"))
	<-g.entered
	r.Write([]byte("waiting"))
	if lost, err := r.Close(time.Millisecond); lost != 7 || err != nil {
		t.Errorf("lost %d, %v; want 7", lost, err)
	}
	if n, _ := r.Write([]byte("late")); n != 4 {
		t.Errorf("Write after Close took %d", n)
	}
	close(g.open)
	<-r.done
}

type refuser struct{}

func (refuser) Write(p []byte) (int, error) { return 1, errors.New("gone") }

func TestRingSurvivesAWriteError(t *testing.T) {
	r := newRing(refuser{}, 100)
	r.Write([]byte("abc"))
	<-r.done
	r.Write([]byte("def"))
	if lost, err := r.Close(time.Minute); lost != 5 || err == nil {
		t.Errorf("lost %d, %v; want 5 and the error", lost, err)
	}
}

func TestRingAcceptsConcurrentWrites(t *testing.T) {
	var got bytes.Buffer
	r := newRing(&got, 1<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				r.Write([]byte("0123456789\n"))
			}
		})
	}
	wg.Wait()
	if lost, _ := r.Close(time.Minute); lost != 0 || got.String() != strings.Repeat("0123456789\n", 8000) {
		t.Errorf("lost %d, got %d bytes, want 88000 with no line interleaved", lost, got.Len())
	}
}
