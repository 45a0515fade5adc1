package usernet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// segment returns a TCP segment as the stack passes it to the link.
func segment(hash uint32, flags header.TCPFlags, ack uint32, options, data int) *stack.PacketBuffer {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 100, Payload: buffer.MakeWithData(make([]byte, data))})
	p.TransportProtocolNumber = header.TCPProtocolNumber
	p.Hash = hash
	size := header.TCPMinimumSize + options
	header.TCP(p.TransportHeader().Push(size)).Encode(&header.TCPFields{SrcPort: 80, DstPort: 1000, AckNum: ack, Flags: flags, DataOffset: uint8(size)})
	return p
}

func TestAcknowledgmentsWaitForAnAnswer(t *testing.T) {
	const bare = header.TCPFlagAck
	type step struct {
		hash    uint32
		flags   header.TCPFlags
		ack     uint32
		options int
		data    int
		kept    bool
	}
	first := step{hash: 1, flags: bare | header.TCPFlagSyn, ack: 100}
	for name, c := range map[string]struct {
		steps []step
		late  []uint32 // acknowledgments sent after the delay
	}{
		"an answer carries it":  {[]step{first, {1, bare, 200, 12, 0, true}, {1, bare | header.TCPFlagPsh, 200, 12, 5, false}}, nil},
		"no answer":             {[]step{first, {1, bare, 200, 12, 0, true}}, []uint32{200}},
		"a later one":           {[]step{first, {1, bare, 200, 12, 0, true}, {1, bare, 300, 12, 0, true}}, []uint32{300}},
		"a full packet":         {[]step{first, {1, bare, 100 + 1500, 12, 0, false}}, nil},
		"twice half a packet":   {[]step{first, {1, bare, 100 + 800, 12, 0, true}, {1, bare, 100 + 1600, 12, 0, false}}, nil},
		"nothing new":           {[]step{first, {1, bare, 100, 12, 0, false}}, nil},
		"across the wrap":       {[]step{{hash: 1, flags: bare, ack: 1<<32 - 10}, {1, bare, 20, 12, 0, true}}, []uint32{20}},
		"holes":                 {[]step{first, {1, bare, 200, 24, 0, false}}, nil},
		"the end":               {[]step{first, {1, bare | header.TCPFlagFin, 200, 12, 0, false}}, nil},
		"an unknown connection": {[]step{{1, bare, 200, 12, 0, false}}, nil},
		"another in its place":  {[]step{first, {1, bare, 200, 12, 0, true}, {1 + ackFlows, bare, 900, 12, 0, false}}, []uint32{200}},
		"two connections":       {[]step{first, {hash: 2, ack: 7}, {1, bare, 200, 12, 0, true}, {2, bare, 8, 0, 0, true}}, []uint32{200, 8}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var late []uint32
				var a acks
				l := newLater(func() { a.sendKept() })
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go l.run(ctx)
				a = acks{mtu: 1500, arm: l.arm, flush: func(p *stack.PacketBuffer) {
					late = append(late, header.TCP(p.TransportHeader().Slice()).AckNumber())
				}}
				for i, s := range c.steps {
					p := segment(s.hash, s.flags, s.ack, s.options, s.data)
					if kept := a.keep(p); kept != s.kept {
						t.Errorf("step %d: kept %v, want %v", i, kept, s.kept)
					}
					p.DecRef()
				}
				time.Sleep(2 * delay)
				synctest.Wait()
				if len(late) != len(c.late) {
					t.Fatalf("late: %d, want %d", late, c.late)
				}
				for i := range late {
					if late[i] != c.late[i] {
						t.Errorf("late: %d, want %d", late, c.late)
					}
				}
				a.close()
			})
		})
	}
}

func TestTheHeadersOfALargeSegmentAreSeparate(t *testing.T) {
	tcp := func(first []byte, n, size int) []byte {
		p := make([]byte, size)
		copy(p, first)
		p[n+12] = 8 << 4 // 32 bytes
		return p
	}
	v4 := append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6}, make([]byte, 10)...)
	v6 := []byte{0x60, 0, 0, 0, 0, 0, 6}
	for name, c := range map[string]struct {
		proto tcpip.NetworkProtocolNumber
		p     []byte
		parts int
	}{
		"IPv4":              {0x0800, tcp(v4, 20, 60000), 2},
		"IPv6":              {0x86dd, tcp(v6, 40, 60000), 2},
		"small":             {0x0800, tcp(v4, 20, 1500), 1},
		"no TCP":            {0x0800, append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17}, make([]byte, 60000)...), 1},
		"no IP":             {0x0806, make([]byte, 60000), 1},
		"long IPv4 options": {0x0800, tcp(append([]byte{0x4f}, v4[1:]...), 60, 60000), 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := payload(c.proto, buffer.NewViewWithData(c.p))
			defer b.Release()
			parts := 0
			b.SubApply(0, int(b.Size()), func(*buffer.View) { parts++ })
			if parts != c.parts || string(b.Flatten()) != string(c.p) {
				t.Errorf("%d parts, want %d; %d bytes of %d", parts, c.parts, b.Size(), len(c.p))
			}
		})
	}
}
