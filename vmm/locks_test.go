package vmm

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
	"minivmm/kvm"
	"minivmm/vmm/config"
)

// TestNoVCPUWaitsForWorkersMu moves an interrupt, starts the device and resets it while workersMu
// is held, as it is for as long as the kernel needs to create threads.
func TestNoVCPUWaitsForWorkersMu(t *testing.T) {
	testenv.Need(t, "kvm")
	sys, err := kvm.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	m := &VM{opt: Options{Console: io.Discard, Logf: t.Logf}, plan: Plan{Config: config.Config{Machine: config.Machine{VCPUs: 1, Memory: 64 << 20}}}}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	devices := m.plan.devices()
	if err := m.addMemory(ecamUsed(len(devices))); err != nil {
		t.Fatal(err)
	}
	if err := m.addMachine(sys); err != nil {
		t.Fatal(err)
	}
	if err := m.addDevices(devices); err != nil {
		t.Fatal(err)
	}

	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		le := binary.LittleEndian
		write := func(gpa uint64, v uint32, size int) { m.mmio.Write(gpa, le.AppendUint32(nil, v)[:size]) }
		read := func(gpa uint64) uint32 {
			var p [4]byte
			m.mmio.Read(gpa, p[:])
			return le.Uint32(p[:])
		}
		const function = ecamGPA + 1<<15 // rng0
		write(function+4, 7, 2)          // command: ports, memory, master
		capability := uint64(read(function+0x34) & 0xff)
		for ; read(function+capability)&0xff != 0x11; capability = uint64(read(function+capability) >> 8 & 0xff) {
		}
		write(function+capability+2, 1<<15, 2) // MSI-X enabled
		bar := uint64(read(function+0x10) &^ 0xf)
		table := bar + uint64(read(function+capability+4)&^7)
		message := func(v uint32) {
			write(table, 0xfee00000, 4)
			write(table+8, v, 4)
			write(table+12, 0, 4)
		}
		message(0x40)
		write(bar+0x14, 1|2, 1)   // status: acknowledge, driver
		write(bar+0x08, 1, 4)     // driver_feature_select
		write(bar+0x0c, 1, 4)     // VERSION_1
		write(bar+0x14, 1|2|8, 1) // FEATURES_OK
		write(bar+0x1a, 0, 2)     // queue_msix_vector
		write(bar+0x20, 0x10000, 4)
		write(bar+0x28, 0x11000, 4)
		write(bar+0x30, 0x12000, 4)
		write(bar+0x1c, 1, 2)       // queue_enable
		write(bar+0x14, 1|2|4|8, 1) // DRIVER_OK
		var status [1]byte
		if m.mmio.Read(bar+0x14, status[:]); status[0] != 1|2|4|8 {
			t.Errorf("status %#x", status)
		}
		message(0x41)
		write(bar+0x14, 0, 1)
	}()
	select {
	case <-done:
	case <-time.After(testenv.Patience / 20):
		t.Fatal("a vCPU is blocked on workersMu")
	}
}
