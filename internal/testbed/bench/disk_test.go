package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// BenchmarkDisk measures the disks of one guest after the other: a file in memory, with direct
// requests by the guest, one at a time and 32 at a time. Each disk receives the same requests, and
// the files must be identical afterwards.
func BenchmarkDisk(b *testing.B) {
	kernel := vmmtest.Kernels(b)[0]
	testenv.Need(b, "kvm", "vhost-scsi")
	bed := newBed(b, kernel.Image)
	initrd := vmmtest.Initrd(b, kernel, "disk")
	exits := [2]*counter{newCounter(b, "kvm_exit"), newCounter(b, "kvm_userspace_exit")}

	sums := map[string]string{}
	for _, v := range []vmm{
		minivmmDisk("inprocess"),
		minivmmDisk("vhost-scsi"),
		qemuDisk("threads", false),
		qemuDisk("io_uring", false),
		qemuDisk("threads", true),
		qemuDisk("io_uring", true),
	} {
		b.Run(v.name, func(b *testing.B) {
			m := v.start(b, bed, initrd)
			m.ask("randwrite", 4096, 32, 1000) // warm up
			for _, d := range []struct {
				what               string
				size, depth, count int
			}{
				{"randread", 4 << 10, 1, 4000},
				{"randwrite", 4 << 10, 1, 4000},
				{"randread", 4 << 10, 32, 16000},
				{"randwrite", 4 << 10, 32, 16000},
				{"randread", 256 << 10, 1, 400},
				{"randwrite", 256 << 10, 1, 400},
			} {
				b.Run(fmt.Sprintf("%s-%dK-depth%d", d.what, d.size>>10, d.depth), func(b *testing.B) {
					run(b, m, exits, func() float64 { return m.ask(d.what, d.size, d.depth, d.count) }, func(ns float64) {
						b.ReportMetric(ns/float64(d.count)/1e3, "us/request")
					})
				})
			}
			m.b = b
			m.end()
			sum, err := checksum(m.disk)
			if err != nil {
				b.Fatal(err)
			}
			sums[sum] += " " + v.name
		})
	}
	if len(sums) > 1 {
		b.Errorf("the disks differ: %v", sums)
	}
}

// newDisk creates the file, with the same content for each machine.
func (m *machine) newDisk(bed *bed) string {
	m.disk = bed.path("disk.img")
	f, err := os.Create(m.disk)
	if err != nil {
		m.b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, mathrand.NewChaCha8([32]byte{1}), diskMiB<<20); err != nil {
		m.b.Fatal(err)
	}
	return m.disk
}

func minivmmDisk(backend string) vmm {
	return vmm{name: "minivmm-" + backend, argv: func(bed *bed, m *machine) []string {
		return []string{bed.minivmm, "run", "--memory", strconv.Itoa(guestMiB) + "M", "--kernel", bed.kernel, "--initrd", m.initrd, "--cmdline", "quiet",
			"--net", "none", "--disk", m.newDisk(bed) + ",backend=" + backend + ",serial=" + diskSerial}
	}}
}

// qemuDisk is QEMU's own virtio-scsi, in its main loop or in an iothread.
func qemuDisk(aio string, iothread bool) vmm {
	name, property := "qemu-"+aio, ""
	if iothread {
		name, property = name+"-iothread", ",iothread=io0"
	}
	return vmm{name: name, isQEMU: true, argv: func(bed *bed, m *machine) []string {
		argv := qemuMachine("q35", false).argv(bed, m)
		return append(slices.Clip(argv), "-object", "iothread,id=io0", "-device", "virtio-scsi-pci"+property,
			"-drive", "if=none,id=d0,format=raw,cache=writeback,discard=unmap,aio="+aio+",file="+m.newDisk(bed),
			"-device", "scsi-hd,drive=d0,serial="+diskSerial)
	}}
}

func checksum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// diskScenario obeys lines from the console as trafficScenario does, without a network: "randread"
// and "randwrite" with size, depth and count.
func diskScenario(g *vmmtest.Guest) error {
	path, err := g.Disk(diskSerial)
	if err != nil {
		return err
	}
	for {
		g.Printf("next?")
		line, err := g.ReadLine()
		if err != nil {
			return err
		}
		var what string
		var size, depth, count int
		if _, err := fmt.Sscan(line, &what, &size, &depth, &count); err != nil {
			return err
		}
		a, err := newAIO(path, what == "randwrite", size, depth)
		if err != nil {
			return err
		}
		took, err := a.run(count)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if err := a.close(); err != nil {
			return err
		}
		g.Printf("took %d", took)
	}
}
