package scsi

import (
	"bytes"
	"testing"

	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
)

// TestManyRequestsInProgress keeps both queues full of reads and of writes with FUA, some of which
// block, and resets in the meantime.
func TestManyRequestsInProgress(t *testing.T) {
	d := virtiotest.NewDriver(t, newInProcess(t, imageUnit(t)))
	const rounds, each = 20, 10
	for round := range rounds {
		d.Start(everything)
		inquiry(t, d, requestQueue)
		command(t, d, requestQueue, make([]byte, 6), nil, 0)
		type read struct{ answer, data []byte }
		block := bytes.Repeat([]byte{byte(round + 1)}, 512)
		gpa, b := d.Buffer(len(block))
		copy(b, block)
		for i := range each {
			header, h := d.Buffer(requestBytes)
			clear(h)
			copy(h, lun0)
			copy(h[19:], []byte{0x2a, 8, 0, 0, 0, byte(i), 0, 0, 1, 0})
			answer, _ := d.Buffer(responseBytes)
			d.Rings[requestQueue].Add(queuetest.Desc{GPA: header, Len: requestBytes}, queuetest.Desc{GPA: gpa, Len: 512},
				queuetest.Desc{GPA: answer, Len: responseBytes, Flags: queuetest.Write})
		}
		d.Rings[requestQueue].Kick()
		if round%2 == 1 {
			d.Reset()
			continue
		}
		waitUsed(t, d, requestQueue, each)
		var reads []read
		for i := range each {
			answer, data := post(d, requestQueue+1, 1, lun0, []byte{0x28, 0, 0, 0, 0, byte(i), 0, 0, 1, 0}, 512)
			reads = append(reads, read{answer, data})
		}
		waitUsed(t, d, requestQueue+1, each)
		for i, r := range reads {
			if r.answer[10] != 0 || r.answer[11] != 0 || !bytes.Equal(r.data, block) {
				t.Fatalf("round %d, block %d: % x: % x...", round, i, r.answer[:16], r.data[:8])
			}
		}
		d.Reset()
	}
}
