package vmm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// Offsets in struct virtio_pci_common_cfg (virtio 1.2 §4.1.4.3), which minivmm places at the start
// of BAR 0, and the offset of its doorbells.
const (
	regDriverFeatureSelect = 0x08
	regDriverFeature       = 0x0c
	regNumQueues           = 0x12
	regStatus              = 0x14
	regQueueSelect         = 0x16
	regQueueSize           = 0x18
	regQueueEnable         = 0x1c
	regQueueNotifyOff      = 0x1e
	regQueueDesc           = 0x20
	regQueueDriver         = 0x28
	regQueueDevice         = 0x30
	doorbells              = 0x1000
	doorbellStep           = 4
	portStep               = 2 // of the doorbells in BAR 1
)

// A ring of 16 in one page.
const (
	pokeRingSize  = 16
	pokeDriverOff = 0x400
	pokeDeviceOff = 0x800
	pageBytes     = 4096
)

// outside is an address at which no guest of these tests has memory.
const outside = 1 << 40

// poker drives a virtio device by hand from the guest's user space, after unbinding the kernel's
// driver from its PCI function.
type poker struct {
	registers
	ports    *os.File // of the queues; nil on a host where ports are not cheaper than memory
	ring     func(p *poker, notifyOff, queue uint16) error
	function string   // 0000:00:01.0
	rings    [][]byte // one page for each queue
	gpas     []uint64
}

const pciDriver = "/sys/bus/pci/drivers/virtio-pci/"

// openPoker takes over the device of a virtio driver.
func openPoker(driver string) (*poker, error) {
	device, err := virtioDevice(driver)
	if err != nil {
		return nil, err
	}
	path, err := filepath.EvalSymlinks("/sys/bus/virtio/devices/" + device)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	p := &poker{function: filepath.Base(dir)}
	if err := os.WriteFile(pciDriver+"unbind", []byte(p.function), 0); err != nil {
		return nil, err
	}
	const command, everything = 4, 1<<0 | 1<<1 | 1<<2 // ports, memory, master
	config, err := os.OpenFile(dir+"/config", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer config.Close()
	if _, err := config.WriteAt([]byte{everything, 0}, command); err != nil {
		return nil, err
	}
	bar, err := os.OpenFile(dir+"/resource0", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer bar.Close()
	p.registers, err = unix.Mmap(int(bar.Fd()), 0, 0x2000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s/resource0: %w", dir, err)
	}
	if p.ports, err = os.OpenFile(dir+"/resource1", os.O_RDWR, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p.ring = (*poker).ringMemory
	for range p.get16(regNumQueues) {
		page, err := unix.Mmap(-1, 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED|unix.MAP_POPULATE)
		if err != nil {
			return nil, err
		}
		gpa, err := physical(page)
		if err != nil {
			return nil, err
		}
		p.rings, p.gpas = append(p.rings, page), append(p.gpas, gpa)
	}
	return p, nil
}

// physical returns the physical address of a locked page
// (Documentation/admin-guide/mm/pagemap.rst).
func physical(page []byte) (uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var entry [8]byte
	if _, err := f.ReadAt(entry[:], int64(address(page)/pageBytes*8)); err != nil {
		return 0, err
	}
	const frame, present = 1<<55 - 1, 1 << 63
	e := binary.LittleEndian.Uint64(entry[:])
	if e&present == 0 || e&frame == 0 {
		return 0, fmt.Errorf("pagemap entry %#x", e)
	}
	return e & frame * pageBytes, nil
}

func (p *poker) put64(off int, v uint64) {
	p.put32(off, uint32(v))
	p.put32(off+4, uint32(v>>32))
}

// reset resets the device and waits until that is done.
func (p *poker) reset() error {
	p.put8(regStatus, 0)
	return p.await("status 0", func(s uint8) bool { return s == 0 })
}

func (p *poker) await(what string, ok func(status uint8) bool) error {
	for deadline := time.Now().Add(testenv.Patience); ; {
		s := p.get8(regStatus)
		if ok(s) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %s: status %#x", p.function, what, s)
		}
		time.Sleep(time.Millisecond)
	}
}

const (
	featuresOK = virtio.StatusAcknowledge | virtio.StatusDriver | virtio.StatusFeaturesOK
	driverOK   = featuresOK | virtio.StatusDriverOK
)

// start activates the device with empty rings. If broken is the number of a queue, that queue's
// ring is at address desc.
func (p *poker) start(broken int, desc uint64) error {
	if err := p.reset(); err != nil {
		return err
	}
	p.put8(regStatus, uint8(virtio.StatusAcknowledge))
	p.put8(regStatus, uint8(virtio.StatusAcknowledge|virtio.StatusDriver))
	for i, half := range []uint32{0, uint32(virtio.FeatureVersion1 >> 32)} {
		p.put32(regDriverFeatureSelect, uint32(i))
		p.put32(regDriverFeature, half)
	}
	p.put8(regStatus, uint8(featuresOK))
	if s := p.get8(regStatus); s != uint8(featuresOK) {
		return fmt.Errorf("status %#x, want FEATURES_OK", s)
	}
	for i, gpa := range p.gpas {
		clear(p.rings[i])
		table := gpa
		if i == broken {
			table = desc
		}
		p.put16(regQueueSelect, uint16(i))
		p.put16(regQueueSize, pokeRingSize)
		p.put64(regQueueDesc, table)
		p.put64(regQueueDriver, gpa+pokeDriverOff)
		p.put64(regQueueDevice, gpa+pokeDeviceOff)
		p.put16(regQueueEnable, 1)
	}
	p.put8(regStatus, uint8(driverOK))
	return nil
}

func (p *poker) kick(queue int) error {
	p.put16(regQueueSelect, uint16(queue))
	return p.ring(p, p.get16(regQueueNotifyOff), uint16(queue))
}

// The ways to kick. On hosts where a port is cheaper, a queue has a port in addition to its address
// in memory; the file does one access per write (drivers/pci/pci-sysfs.c, pci_resource_io). A
// port's second byte has no doorbell, so a write to it exits to user space.
func (p *poker) ringMemory(notifyOff, queue uint16) error {
	p.put16(doorbells+doorbellStep*int(notifyOff), queue)
	return nil
}

func (p *poker) ringPort(notifyOff, queue uint16) error {
	if p.ports == nil {
		return p.ringMemory(notifyOff, queue)
	}
	_, err := p.ports.WriteAt(binary.LittleEndian.AppendUint16(nil, queue), portStep*int64(notifyOff))
	return err
}

func (p *poker) ringByExit(notifyOff, queue uint16) error {
	if p.ports == nil {
		return p.ringMemory(notifyOff, queue)
	}
	_, err := p.ports.WriteAt([]byte{byte(queue)}, portStep*int64(notifyOff)+1)
	return err
}

// needsReset waits until the device sets DEVICE_NEEDS_RESET.
func (p *poker) needsReset() error {
	return p.await("DEVICE_NEEDS_RESET", func(s uint8) bool { return s&uint8(virtio.StatusNeedsReset) != 0 })
}

// ringOutside gives the device a ring at an address without memory.
func (p *poker) ringOutside(queue int) error {
	if err := p.start(queue, outside); err != nil {
		return err
	}
	return p.needsReset()
}

// badDescriptor gives it a chain whose buffer is at an address without memory, and keeps kicking
// after the device has noticed.
func (p *poker) badDescriptor(queue int) error {
	if err := p.start(-1, 0); err != nil {
		return err
	}
	if s := p.get8(regStatus); s != uint8(driverOK) {
		return fmt.Errorf("status %#x, want DRIVER_OK", s)
	}
	le := binary.LittleEndian
	ring := p.rings[queue]
	le.PutUint64(ring[0:], outside)
	le.PutUint32(ring[8:], 128)
	le.PutUint16(ring[pokeDriverOff+2:], 1) // idx
	if err := p.kick(queue); err != nil {
		return err
	}
	if err := p.needsReset(); err != nil {
		return err
	}
	for range 100 {
		if err := p.kick(queue); err != nil {
			return err
		}
	}
	return nil
}

// badDescriptors calls badDescriptor with each way to kick.
func (p *poker) badDescriptors(queue int) error {
	for i, ring := range []func(p *poker, notifyOff, queue uint16) error{(*poker).ringPort, (*poker).ringByExit, (*poker).ringMemory} {
		p.ring = ring
		if err := p.badDescriptor(queue); err != nil {
			return fmt.Errorf("kick %d: %w", i, err)
		}
	}
	return nil
}

// frozen writes the queues' registers when the driver may no longer change them.
func (p *poker) frozen(int) error {
	if err := p.start(-1, 0); err != nil {
		return err
	}
	for i, gpa := range p.gpas {
		p.put16(regQueueSelect, uint16(i))
		p.put16(regQueueSize, 4)
		p.put16(regQueueEnable, 0)
		for _, off := range []int{regQueueDesc, regQueueDriver, regQueueDevice} {
			p.put64(off, 0xdead_beef_dead_beef)
		}
		if n, on := p.get16(regQueueSize), p.get16(regQueueEnable); n != pokeRingSize || on != 1 {
			return fmt.Errorf("queue %d: size %d, enabled %d", i, n, on)
		}
		for off, want := range map[int]uint64{regQueueDesc: gpa, regQueueDriver: gpa + pokeDriverOff, regQueueDevice: gpa + pokeDeviceOff} {
			if got := uint64(p.get32(off)) | uint64(p.get32(off+4))<<32; got != want {
				return fmt.Errorf("queue %d: register %#x: %#x, was %#x", i, off, got, want)
			}
		}
		if err := p.kick(i); err != nil {
			return err
		}
	}
	if s := p.get8(regStatus); s != uint8(driverOK) {
		return fmt.Errorf("status %#x, want DRIVER_OK", s)
	}
	return nil
}

// lives activates and resets it n times.
func (p *poker) lives(n int) error {
	for range n {
		if err := p.start(-1, 0); err != nil {
			return err
		}
		if s := p.get8(regStatus); s != uint8(driverOK) {
			return fmt.Errorf("status %#x, want DRIVER_OK", s)
		}
	}
	return nil
}

// close returns the device to its driver.
func (p *poker) close() error {
	if err := p.reset(); err != nil {
		return err
	}
	if p.ports != nil {
		if err := p.ports.Close(); err != nil {
			return err
		}
	}
	for _, page := range append(p.rings, p.registers) {
		if err := unix.Munmap(page); err != nil {
			return err
		}
	}
	return os.WriteFile(pciDriver+"bind", []byte(p.function), 0)
}

// poke does one of the above to a driver's device; n is a queue or a count.
func poke(g *vmmtest.Guest, driver, how string, n int) error {
	ways := map[string]func(*poker, int) error{
		"ring-outside":    (*poker).ringOutside,
		"bad-descriptors": (*poker).badDescriptors,
		"frozen":          (*poker).frozen,
		"lives":           (*poker).lives,
	}
	p, err := openPoker(driver)
	if err != nil {
		return err
	}
	if err := ways[how](p, n); err != nil {
		return fmt.Errorf("%s %s: %w", driver, how, err)
	}
	if err := p.close(); err != nil {
		return err
	}
	g.Printf("poked %s %s", driver, how)
	return nil
}
