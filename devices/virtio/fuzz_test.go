package virtio_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"minivmm/devices/virtio"
)

// FuzzCommonConfig interprets the input as register writes of five bytes each: register and value.
// The frontend must agree with the model after each. The top bit of the register makes an
// activation fail.
func FuzzCommonConfig(f *testing.F) {
	up := func() (writes []byte) {
		write := func(r virtio.Register, v uint32) {
			writes = binary.LittleEndian.AppendUint32(append(writes, byte(r)), v)
		}
		write(virtio.DeviceStatus, 1)
		write(virtio.DeviceStatus, 3)
		write(virtio.DriverFeatureSelect, 1)
		write(virtio.DriverFeature, 1)
		write(virtio.DeviceStatus, 11)
		for q := range uint32(2) {
			write(virtio.QueueSelect, q)
			write(virtio.QueueSize, 16)
			write(virtio.QueueDescLow, 0x20000+0x1000*q)
			write(virtio.QueueDriverLow, 0x20400+0x1000*q)
			write(virtio.QueueDeviceLow, 0x20800+0x1000*q)
			write(virtio.QueueEnable, 1)
		}
		write(virtio.DeviceStatus, 15)
		return writes
	}()
	f.Add(up)
	f.Add(append(up[:len(up):len(up)], byte(virtio.QueueSize), 1, 0, 0, 0, byte(virtio.DeviceStatus), 0, 0, 0, 0))
	f.Add(append(up[:len(up):len(up)], up...))
	mem := memory(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		dev := recorder()
		front, err := virtio.NewFrontend(dev, mem, virtio.Options{Name: "test0"})
		if err != nil {
			t.Fatal(err)
		}
		defer front.Close()
		m := &model{offered: dev.Offers | virtio.FeatureVersion1, max: dev.Sizes}
		m.reset()
		for len(data) >= 5 {
			r, v := virtio.Register(data[0]&0x7f)%(virtio.QueueDeviceHigh+1), binary.LittleEndian.Uint32(data[1:])
			dev.Refuses, m.refuses = nil, data[0]&0x80 != 0
			if m.refuses {
				dev.Refuses = errors.New("refused")
			}
			data = data[5:]
			front.Write(r, v)
			m.write(r, v)
			for r := range virtio.QueueDeviceHigh + 1 {
				if got, want := front.Read(r), m.read(r); got != want {
					t.Fatalf("%v reads %#x, want %#x", r, got, want)
				}
			}
			if got := len(dev.Activations()); got != m.activations {
				t.Fatalf("%d activations, want %d", got, m.activations)
			}
		}
	})
}
