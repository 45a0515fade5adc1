package bench

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// idleTime is longer than minivmm takes to free the memory that its start used. The instruction
// clock skips this time.
const idleTime = 35 * time.Second

// BenchmarkBoot measures the time from the exec of the VMM to the first line of the guest's init on
// the console, the KVM exits during that time, and the VMM's memory in addition to the guest's.
func BenchmarkBoot(b *testing.B) {
	kernel := vmmtest.Kernels(b)[0]
	testenv.Need(b, "kvm", "vhost-net", "vhost-scsi")
	bed := newBed(b, kernel.Image)
	initrd := vmmtest.SaveInitrd(b, map[string][]byte{"init": tinyInit()})
	exits, userExits := newCounter(b, "kvm_exit"), newCounter(b, "kvm_userspace_exit")

	boot := func(name string, v vmm) {
		b.Run(name, func(b *testing.B) {
			var ns, all, user, resident, private float64
			total, idle := busy()
			for range b.N {
				allBefore, userBefore := exits.read(), userExits.read()
				m := v.start(b, bed, initrd)
				_, at := m.expect(bootLine)
				all += exits.read() - allBefore
				user += userExits.read() - userBefore
				ns += float64(at.Sub(m.started))
				time.Sleep(idleTime)
				r, p, err := memoryBeyond(m.cmd.Process.Pid, guestMiB<<10)
				if err != nil {
					b.Error(err)
				}
				resident += r
				private += p
				m.end()
			}
			n := float64(b.N)
			totalAfter, idleAfter := busy()
			b.ReportMetric(100-100*(idleAfter-idle)/(totalAfter-total), "%busy")
			b.ReportMetric(ns/n, "ns/op")
			b.ReportMetric(all/n, "exits/op")
			b.ReportMetric(user/n, "user-exits/op")
			b.ReportMetric(resident/n, "KiB-resident")
			b.ReportMetric(private/n, "KiB-private")
		})
	}
	boot("first-start/minivmm", minivmmMachine(false)) // unpacks the kernel
	for _, devices := range []bool{false, true} {
		with, pci := "bare/", ""
		if devices {
			with, pci = "nic+disk/", ",pcie=on" // vhost-scsi requires PCI
			// The first target on a host loads modules.
			m := minivmmMachine(true).start(b, bed, initrd)
			m.expect(bootLine)
			m.end()
		}
		boot(with+"minivmm", minivmmMachine(devices))
		boot(with+"qemu-microvm", qemuMachine("microvm"+pci, devices))
		boot(with+"qemu-microvm-pit=off-pic=off-rtc=on", qemuMachine("microvm,pit=off,pic=off,rtc=on"+pci, devices))
		boot(with+"qemu-q35", qemuMachine("q35", devices))
	}
}

// BenchmarkDefaultGuest measures the time from the exec of minivmm to the kernel's start of init:
// with the kernel and the initial RAM file system given as files, and with "minivmm run -- true",
// which finds both itself.
func BenchmarkDefaultGuest(b *testing.B) {
	testenv.Need(b, "kvm")
	host := newBed(b, vmmtest.Kernels(b)[0].Image)
	host.copyStore(b)
	const loud = "quiet hostname=vm net.ifnames=0 minivmm.channel=minivmm loglevel=7"
	found := vmm{name: "found", argv: func(bed *bed, _ *machine) []string {
		return []string{bed.minivmm, "run", "--cmdline", "loglevel=7", "--", "true"}
	}}
	ready := vmm{name: "files", argv: func(bed *bed, _ *machine) []string {
		kernel := onlyFile(b, bed.path("cache/kernels/*/vmlinux"))
		initrd := onlyFile(b, bed.path("cache/initramfs/*.cpio"))
		return []string{bed.minivmm, "run", "--kernel", kernel, "--initrd", initrd, "--cmdline", loud}
	}}
	for _, v := range []vmm{found, ready, found} {
		name := v.name
		if name == "found" && len(globbed(b, host.path("cache/initramfs/*.cpio"))) == 0 {
			name = "first" // creates the initial RAM file system
		}
		b.Run(name, func(b *testing.B) {
			var ns float64
			for range b.N {
				m := v.start(b, host, "")
				_, at := m.expect("Run /init as init process")
				ns += float64(at.Sub(m.started))
				m.end()
			}
			b.ReportMetric(ns/float64(b.N), "ns/op")
		})
	}
}

func globbed(b *testing.B, pattern string) []string {
	b.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		b.Fatal(err)
	}
	return files
}

// onlyFile returns the only file that matches the pattern.
func onlyFile(b *testing.B, pattern string) string {
	b.Helper()
	files := globbed(b, pattern)
	if len(files) != 1 {
		b.Fatalf("%s: %q, want one file", pattern, files)
	}
	return files[0]
}

// BenchmarkTraffic measures network and disk of one guest after the other, on the same tap and the
// same kind of LIO target.
func BenchmarkTraffic(b *testing.B) {
	kernel := vmmtest.Kernels(b)[0]
	testenv.Need(b, "kvm", "vhost-net", "vhost-scsi")
	bed := newBed(b, kernel.Image)
	initrd := vmmtest.Initrd(b, kernel, "traffic")
	exits := [2]*counter{newCounter(b, "kvm_exit"), newCounter(b, "kvm_userspace_exit")}

	for _, v := range []vmm{
		minivmmMachine(true),
		qemuMachine("q35", true),
	} {
		b.Run(v.name, func(b *testing.B) {
			m := v.start(b, bed, initrd)
			// Warm up: neighbours, page tables, caches.
			m.ask("send", 4)
			m.ask("receive", 4)
			m.ask("echo", 100)
			m.ask("randwrite", 4096, 32, 1000)

			for _, what := range []string{"send", "receive"} {
				b.Run("tcp-"+what, func(b *testing.B) {
					const mib = 128
					run(b, m, exits, func() float64 { return m.ask(what, mib) }, func(ns float64) {
						b.ReportMetric(mib<<23/(ns/1e9)/1e6, "Mb/s")
					})
				})
			}
			b.Run("tcp-echo", func(b *testing.B) {
				const count = 1000
				run(b, m, exits, func() float64 { return m.ask("echo", count) }, func(ns float64) {
					b.ReportMetric(ns/count/1e3, "us/echo")
				})
			})
			for _, d := range []struct {
				what               string
				size, depth, count int
			}{
				{"randread", 4 << 10, 1, 5000},
				{"randwrite", 4 << 10, 1, 5000},
				{"randread", 4 << 10, 32, 10000},
				{"randwrite", 4 << 10, 32, 10000},
				{"read", 256 << 10, 1, 1000},
				{"write", 256 << 10, 1, 1000},
			} {
				b.Run(fmt.Sprintf("disk-%s-%dK-depth%d", d.what, d.size>>10, d.depth), func(b *testing.B) {
					run(b, m, exits, func() float64 { return m.ask(d.what, d.size, d.depth, d.count) }, func(ns float64) {
						b.ReportMetric(ns/float64(d.count)/1e3, "us/request")
					})
				})
			}
		})
	}
}

// run repeats a command and reports its rate under the given name, the share of the host's time
// that was not idle, and the guest's exits, to the kernel and on to user space. The command and its
// answer on the serial console account for some hundred exits.
func run(b *testing.B, m *machine, exits [2]*counter, once func() float64, report func(ns float64)) {
	m.b = b // report failures in this benchmark
	total, idle := busy()
	before := [2]float64{exits[0].read(), exits[1].read()}
	var ns float64
	for range b.N {
		ns += once()
	}
	n := float64(b.N)
	b.ReportMetric((exits[0].read()-before[0])/n, "exits/op")
	b.ReportMetric((exits[1].read()-before[1])/n, "user-exits/op")
	totalAfter, idleAfter := busy()
	b.ReportMetric(100-100*(idleAfter-idle)/(totalAfter-total), "%busy")
	b.ReportMetric(ns/n, "ns/op")
	report(ns / n)
}
