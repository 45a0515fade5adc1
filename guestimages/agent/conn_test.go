package agent

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesArriveAsSent(t *testing.T) {
	var stream bytes.Buffer
	c := NewConn(&stream)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	frames := []struct {
		kind    Kind
		payload []byte
	}{{KindHello, nil}, {KindStdin, all}, {KindStdinEnd, nil}, {KindStderr, bytes.Repeat(all, 500)}}
	for _, f := range frames {
		if err := c.Send(f.kind, f.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SendJSON(KindExit, Exit{Status: 3}); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		kind, payload, err := c.Receive()
		if err != nil || kind != f.kind || !bytes.Equal(payload, f.payload) {
			t.Fatalf("got %q with %d bytes, %v, want %q with %d", kind, len(payload), err, f.kind, len(f.payload))
		}
	}
	if kind, payload, err := c.Receive(); err != nil || kind != KindExit || string(payload) != `{"status":3}` {
		t.Errorf("got %q %s, %v", kind, payload, err)
	}
	if _, _, err := c.Receive(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestCopyCutsDataToTheLimit(t *testing.T) {
	var stream bytes.Buffer
	c := NewConn(&stream)
	want := bytes.Repeat([]byte{1, 2, 3}, MaxData)
	if err := c.Copy(KindStdout, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		kind, payload, err := c.Receive()
		if err == io.EOF {
			break
		}
		if err != nil || kind != KindStdout || len(payload) > MaxData {
			t.Fatalf("frame %q of %d bytes, %v", kind, len(payload), err)
		}
		got = append(got, payload...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("H\x00\x00\x00\x00"))
	f.Add([]byte("o\x00\x00\x00\x02hi"))
	f.Add([]byte("o\xff\xff\xff\xffhi"))
	f.Add([]byte("o\x00\x00\x00\x09hi"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := NewConn(bytes.NewBuffer(stream))
		read := 0
		for {
			_, payload, err := c.Receive()
			if err != nil {
				if len(stream)-read >= headerSize && errors.Is(err, io.EOF) {
					t.Errorf("EOF with %d bytes left", len(stream)-read)
				}
				return
			}
			read += headerSize + len(payload)
			if read > len(stream) {
				t.Fatalf("got %d bytes of %d", read, len(stream))
			}
		}
	})
}
