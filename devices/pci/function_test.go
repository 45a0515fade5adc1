package pci

import (
	"bytes"
	"testing"

	"minivmm/devices/bus"
)

// ram is a handler that keeps what is written.
type ram []byte

func (m ram) Read(off uint64, p []byte)  { copy(p, m[off:]) }
func (m ram) Write(off uint64, p []byte) { copy(m[off:], p) }

func newRoot(t testing.TB, o Options) *Root {
	t.Helper()
	r, err := NewRoot(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func insert(t testing.TB, r *Root, f *Function) int {
	t.Helper()
	device, err := r.Insert(f)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

var low = Window{0xe000_0000, 0x1000_0000}

func TestMemoryDecodingFollowsTheCommandRegister(t *testing.T) {
	var mmio bus.Bus
	r := newRoot(t, Options{MMIO: &mmio, Low: low})
	f := NewFunction(Identity{Vendor: 0x1af4, Device: 0x1041, Class: 0x020000})
	content := bytes.Repeat([]byte{0x5a}, 0x4000)
	if err := f.AddBAR(0, BAR{SizeBytes: 0x4000, Handler: ram(content)}); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.BARAddress(0); ok {
		t.Error("a BAR has an address before insertion")
	}
	insert(t, r, f)
	gpa, ok := f.BARAddress(0)
	if !ok || gpa != 0xe000_0000 {
		t.Fatalf("BARAddress = %#x, %v", gpa, ok)
	}
	var commands []uint16
	f.OnCommand(func(c uint16) { commands = append(commands, c) })
	for i, command := range []uint16{0, CommandMemory, CommandMaster | CommandMemory, CommandMaster, CommandMaster} {
		f.Write(regCommand, le.AppendUint16(nil, command))
		p := make([]byte, 4)
		mmio.Read(gpa+0x100, p)
		want := byte(0xff)
		if command&CommandMemory != 0 {
			want = 0x5a
		}
		if !bytes.Equal(p, bytes.Repeat([]byte{want}, 4)) {
			t.Errorf("step %d, command %#x: read % x, want %#x", i, command, p, want)
		}
	}
	if want := []uint16{2, 6, 4}; len(commands) != 3 || commands[0] != want[0] || commands[1] != want[1] || commands[2] != want[2] {
		t.Errorf("the owner heard %#x, want %#x", commands, want)
	}
}
