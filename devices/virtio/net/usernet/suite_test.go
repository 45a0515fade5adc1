package usernet

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

var guestMAC = []byte{2, 0, 0, 0, 0, 0x15}

// arpFrame returns an ARP request for the address.
func arpFrame(target [4]byte) []byte {
	f := bytes.Join([][]byte{
		bytes.Repeat([]byte{0xff}, 6), guestMAC, {0x08, 0x06},
		{0, 1, 0x08, 0, 6, 4, 0, 1}, guestMAC, {10, 0, 2, 15}, make([]byte, 6), target[:],
	}, nil)
	return append(f, make([]byte, 60-len(f))...)
}

// arpReply returns the guest's answer to an ARP request.
func arpReply(request []byte) []byte {
	r := bytes.Clone(request)
	copy(r, request[6:12])
	copy(r[6:], guestMAC)
	asked, reply := header.ARP(request[ethBytes:]), header.ARP(r[ethBytes:])
	reply.SetOp(header.ARPReply)
	copy(reply.HardwareAddressSender(), guestMAC)
	copy(reply.ProtocolAddressSender(), asked.ProtocolAddressTarget())
	copy(reply.HardwareAddressTarget(), asked.HardwareAddressSender())
	copy(reply.ProtocolAddressTarget(), asked.ProtocolAddressSender())
	return r
}

// arpTraffic sends an ARP request for the gateway and expects the answer.
func arpTraffic(t testing.TB, d *virtiotest.Driver) {
	t.Helper()
	in, got := d.Buffer(2048)
	d.Rings[0].Add(queuetest.Desc{GPA: in, Len: 2048, Flags: queuetest.Write})
	d.Rings[0].Kick()
	f := append(make([]byte, hdrBytes), arpFrame([4]byte{10, 0, 2, 2})...)
	out, sent := d.Buffer(len(f))
	copy(sent, f)
	d.Rings[1].Add(queuetest.Desc{GPA: out, Len: uint32(len(f))})
	d.Rings[1].Kick()
	if _, err := d.Rings[1].WaitUsed(testenv.Patience); err != nil {
		t.Fatal(err)
	}
	u, err := d.Rings[0].WaitUsed(testenv.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0, 2, 0x52, 0x55, 10, 0, 2, 2, 10, 0, 2, 2}; u.Len < hdrBytes+42 || !bytes.Equal(got[hdrBytes+20:hdrBytes+32], want) {
		t.Errorf("answer of %d bytes: % x", u.Len, got[:min(u.Len, 60)])
	}
}

func TestTheBackendConforms(t *testing.T) {
	virtiotest.TestBackend(t, virtio.NetID, []uint16{256, 256}, func(t testing.TB) virtio.Backend {
		b, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, virtiotest.Suite{
		Traffic: arpTraffic,
		Hostile: 1,
		Shape: func(d *virtiotest.Driver) []queuetest.Desc {
			gpa, b := d.Buffer(72)
			copy(b[hdrBytes:], arpFrame([4]byte{10, 0, 2, 2}))
			return []queuetest.Desc{{GPA: gpa, Len: 72}}
		},
	})
}
