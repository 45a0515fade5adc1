package scsi

import (
	"fmt"
	"os"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/scsi/target"
	"minivmm/devices/virtio/virtiotest"
)

// BenchmarkRead measures reads of 4 and 256 KiB on the device side and the driver side, except for
// the driver's allocations.
func BenchmarkRead(b *testing.B) {
	for _, tc := range []struct{ depth, kib int }{{1, 4}, {14, 4}, {1, 256}} {
		b.Run(fmt.Sprintf("depth%d/%dK", tc.depth, tc.kib), func(b *testing.B) {
			f, err := os.CreateTemp("/dev/shm", "disk")
			if err != nil {
				b.Fatal(err)
			}
			defer os.Remove(f.Name())
			if _, err := f.Write(make([]byte, 4<<20)); err != nil {
				b.Fatal(err)
			}
			tg, err := target.New([]target.Unit{{Store: target.NewFile(f), SizeBytes: 4 << 20, BlockSize: 512, Serial: "1"}})
			if err != nil {
				b.Fatal(err)
			}
			dev, err := New(Config{RequestQueues: 1, QueueSize: 128}, NewInProcess(tg))
			if err != nil {
				b.Fatal(err)
			}
			d := virtiotest.NewDriver(b, dev)
			d.Start(everything)
			inquiry(b, d, requestQueue)
			command(b, d, requestQueue, make([]byte, 6), nil, 0)
			pages := tc.kib / 4
			chains := make([][]queuetest.Desc, tc.depth)
			for i := range chains {
				header, h := d.Buffer(requestBytes)
				clear(h)
				copy(h, lun0)
				copy(h[19:], []byte{0x28, 0, 0, 0, byte(i), 0, 0, byte(pages * 8 >> 8), byte(pages * 8), 0})
				answer, _ := d.Buffer(responseBytes)
				chains[i] = []queuetest.Desc{{GPA: header, Len: requestBytes}, {GPA: answer, Len: responseBytes, Flags: queuetest.Write}}
				for range pages {
					gpa, _ := d.Buffer(4096)
					chains[i] = append(chains[i], queuetest.Desc{GPA: gpa, Len: 4096, Flags: queuetest.Write})
				}
			}
			table, _ := d.Buffer(16 * (pages + 2) * tc.depth)
			b.ReportAllocs()
			b.ResetTimer()
			ring := d.Rings[requestQueue]
			for n := 0; n < b.N; n += tc.depth {
				for i, c := range chains {
					ring.AddIndirect(table+guestmem.GPA(16*i*(pages+2)), c...)
				}
				ring.Kick()
				waitUsed(b, d, requestQueue, tc.depth)
			}
		})
	}
}
