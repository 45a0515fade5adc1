package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checker checks a decoded Config against the rules that involve more than the type of one value.
// If the decoder has already reported a value, the Config holds the default instead.
type checker struct{ *decoder }

// bad reports a problem with the value of the key p.
func (c *checker) bad(p path, format string, args ...any) {
	c.add(c.at(p), "%s: %s", p, fmt.Sprintf(format, args...))
}

func (c *checker) config(cfg *Config) {
	c.machine(&cfg.Machine)
	c.boot(&cfg.Boot)
	c.console(&cfg.Console)
	c.nets(cfg.Net)
	c.lans(cfg.Net)
	c.disks(cfg.Disk)
	c.imageDisk(cfg)
	c.overwritten(cfg)
	c.workers(cfg)
	c.queueSize("scsi.queue_size", cfg.SCSI.QueueSize)
	c.limits(&cfg.Limits, &cfg.Machine)
}

func (c *checker) machine(m *Machine) {
	switch {
	case m.Memory < minMemory:
		c.bad("machine.memory", "%s is too small: at least %s", m.Memory, Size(minMemory))
	case m.Memory > maxMemory:
		c.bad("machine.memory", "%s is too large: at most %s", m.Memory, Size(maxMemory))
	case m.Memory%pageSize != 0:
		c.bad("machine.memory", "%s is not a multiple of the page size, 4K", m.Memory)
	}
	if m.ShutdownTimeout.Duration > maxShutdown {
		c.bad("machine.shutdown_timeout", "%s is too long: at most %s", m.ShutdownTimeout, Duration{maxShutdown})
	}
}

func (c *checker) boot(b *Boot) {
	if _, stored := b.Kernel.Stored(); !stored {
		c.file("boot.kernel", Path(b.Kernel), isRegular, "a regular file")
	}
	if b.Initrd != "" {
		c.file("boot.initrd", b.Initrd, isRegular, "a regular file")
	}
}

func (c *checker) console(con *Console) {
	if c.set("console.size") && !c.unread("console.mode") {
		if con.Mode != ConsoleFile {
			c.add(c.keyAt("console.size"), `console.size applies only to mode "file", but mode is %q`, con.Mode)
		} else {
			c.fileSize("console.size", con.Size)
		}
	}
	switch {
	case con.Mode == ConsoleFile && c.missing("console.path"):
		c.add(c.at("console.mode"), `console.mode "file" requires console.path`)
	case con.Mode != ConsoleFile && c.given["console.path"] && !c.unread("console.mode"):
		c.add(c.keyAt("console.path"), `console.path applies only to mode "file", but mode is %q`, con.Mode)
	case con.Path != "":
		c.output("console.path", con.Path, fs.FileInfo.IsDir, "a folder")
	}
}

// output checks a file that minivmm will write. It reports an error if the file's folder does not
// exist, or if the file exists and the function unfit returns true. The argument what completes the
// message "FILE is ...".
func (c *checker) output(p path, file Path, unfit func(fs.FileInfo) bool, what string) {
	if !c.file(p, Path(filepath.Dir(string(file))), fs.FileInfo.IsDir, "a folder") {
		return
	}
	if info, err := c.stat(string(file)); err == nil && unfit(info) {
		c.bad(p, "%s is %s", quote(string(file)), what)
	}
}

// overwritten reports a console or capture file that is also a boot file, a disk or the image, and
// a capture file that is also the console file.
func (c *checker) overwritten(cfg *Config) {
	files := map[Path]string{Path(cfg.Boot.Kernel): "boot.kernel", cfg.Boot.Initrd: "boot.initrd", Path(cfg.Image): "image"}
	for i, d := range cfg.Disk {
		files[d.Path] = fmt.Sprintf("disk[%d].path", i)
	}
	check := func(p path, file Path) {
		if file == "" {
			return
		}
		if owner, ok := files[file]; ok {
			c.bad(p, "%s is also %s and would be overwritten", quote(string(file)), owner)
		}
	}
	check("console.path", cfg.Console.Path)
	files[cfg.Console.Path] = "console.path"
	for i, n := range cfg.Net {
		check(path("net").index(i).key("pcap"), n.Pcap)
	}
}

func (c *checker) nets(nets []Net) {
	c.atMost("net", len(nets), maxNets)
	ids, taps, macs := map[Name]int{}, map[IfName]int{}, map[MAC]int{}
	ports := publishedPorts{}
	for i := range nets {
		n, p := &nets[i], path("net").index(i)
		c.id(ids, n.ID, i, p)
		if n.Tap != "" {
			if first, twice := taken(taps, n.Tap, i); twice {
				c.bad(p.key("tap"), "%q is already used by net[%d]", n.Tap, first)
			}
			for _, k := range []string{"address", "bridge"} {
				if q := p.key(k); c.given[q] {
					c.add(c.keyAt(q), "%s applies only to a tap that minivmm creates, but tap names an existing one: configure that tap yourself, or remove tap", q)
				}
			}
		}
		if first, twice := taken(macs, n.MAC, i); twice && c.given[p.key("mac")] {
			c.bad(p.key("mac"), "%s is already used by net[%d]", n.MAC, first)
		}
		if a, b := p.key("address"), p.key("bridge"); n.Tap == "" && c.given[a] && c.given[b] {
			c.add(later(c.keyAt(a), c.keyAt(b)), "%s cannot have both address and bridge: assign the address to the bridge instead", p)
		}
		c.wire(n, p)
		c.ports(ports, n.Ports, i, p.key("ports"))
		c.queueSize(p.key("queue_size"), n.QueueSize)
	}
}

// wire reports keys that do not apply to the network's backend.
func (c *checker) wire(n *Net, p path) {
	for _, key := range [...]struct{ name, lacks string }{
		{"tap", "no tap"}, {"address", "no tap"}, {"bridge", "no tap"}, {"affinity", "no kernel worker"}, {"busy_poll", "no kernel worker"},
	} {
		q := p.key(key.name)
		if !c.given[q] {
			continue
		}
		if n.Backend == NetUser {
			c.add(c.keyAt(q), "%s applies only to backend \"vhost\", but backend is %q, which has %s", q, n.Backend, key.lacks)
		}
		for _, u := range userKeys {
			if n.Backend == NetAuto && c.given[p.key(u)] && key.lacks == "no tap" {
				c.add(later(c.keyAt(q), c.keyAt(p.key(u))), "%s cannot have both %s and %s: %[2]s applies only to backend \"vhost\", %[3]s only to \"user\"", p, key.name, u)
			}
		}
	}
	for _, u := range userKeys {
		if q := p.key(u); c.given[q] && n.Backend == NetVhost {
			c.add(c.keyAt(q), "%s applies only to backend \"user\", but backend is %q: its packets do not pass through minivmm", q, n.Backend)
		}
	}
}

func (c *checker) disks(disks []Disk) {
	c.atMost("disk", len(disks), maxDisks)
	ids, paths, serials, wwns := map[Name]int{}, map[Path]int{}, map[Serial]int{}, map[string]int{}
	var infos []fs.FileInfo // of the disks so far; nil for a disk without a usable file
	named := -1             // index of the first disk with an explicit backend
	for i := range disks {
		d, p := &disks[i], path("disk").index(i)
		infos = append(infos, nil)
		c.id(ids, d.ID, i, p)
		if c.missing(p.key("path")) {
			c.add(c.at(p), `%s.path is missing: set it to a disk image or block device, like path = "disk.img"`, p)
		}
		if d.Path != "" {
			if first, twice := taken(paths, d.Path, i); twice {
				c.bad(p.key("path"), "%s is already used by disk[%d]", quote(string(d.Path)), first)
			} else if c.file(p.key("path"), d.Path, isDisk, "a regular file or a block device") {
				infos[i], _ = c.stat(string(d.Path))
				c.image(p.key("path"), d, infos[:i+1])
			}
		}
		if first, twice := taken(serials, d.Serial, i); twice && c.given[p.key("serial")] {
			c.bad(p.key("serial"), "%s is already used by disk[%d]", quote(string(d.Serial)), first)
		} else if first, same := taken(wwns, d.Serial.digits(), i); !twice && same && c.given[p.key("serial")] {
			c.bad(p.key("serial"), "%s and serial %s of disk[%d] give the same world wide name, which is the first 25 hexadecimal digits of the serial: start one serial with another digit, not 0, such as %s",
				quote(string(d.Serial)), quote(string(disks[first].Serial)), first, quote("1-"+string(d.Serial)))
		}
		switch {
		case d.Backend == DiskAuto:
		case named < 0:
			named = i
		case d.Backend != disks[named].Backend:
			c.bad(p.key("backend"), "%q conflicts with %q of disk[%d]: all disks share one controller, so they need the same backend",
				d.Backend, disks[named].Backend, named)
		}
		if d.BlockSize != 512 && d.BlockSize != 4096 {
			c.bad(p.key("block_size"), "%d is not supported: want 512 or 4096", d.BlockSize)
		}
	}
}

// imageDisk reports disks that leave no room or no id for the image's disk, see [Config.ImageDisk].
func (c *checker) imageDisk(cfg *Config) {
	if cfg.Image == "" {
		return
	}
	if len(cfg.Disk) == maxDisks {
		c.add(c.at(path("disk").index(maxDisks-1)), "disk: %d entries are too many with an image: at most %d", maxDisks, maxDisks-1)
	}
	for i, d := range cfg.Disk {
		if d.ID == imageID {
			c.add(c.at(path("disk").index(i).key("id")), "disk[%d].id: %q is reserved for the image's disk", i, d.ID)
		}
	}
}

// image checks that the file of the last disk in infos is not also the file of another disk, is
// raw, and contains only whole blocks.
func (c *checker) image(p path, d *Disk, infos []fs.FileInfo) {
	last := len(infos) - 1
	info := infos[last]
	for i, other := range infos[:last] {
		if other != nil && info != nil && os.SameFile(info, other) {
			c.bad(p, "%s is the same file as disk[%d].path", quote(string(d.Path)), i)
		}
	}
	if info == nil || !info.Mode().IsRegular() || d.BlockSize <= 0 {
		return
	}
	if err := c.raw(string(d.Path)); err != nil {
		c.bad(p, "%v", err)
		return
	}
	switch size := info.Size(); {
	case size == 0:
		c.bad(p, "%s is empty: set its size, for example with truncate -s 1G", quote(string(d.Path)))
	case size%int64(d.BlockSize) != 0:
		c.bad(p, "%s is %d bytes, not a multiple of the block size %d: the last partial block would be lost; pad the file with truncate -s %%%d",
			quote(string(d.Path)), size, d.BlockSize, d.BlockSize)
	}
}

// file returns true if the file exists and the function ok accepts it. Otherwise it reports an
// error, in which the argument want names the kind of file that ok accepts.
func (c *checker) file(p path, name Path, ok func(fs.FileInfo) bool, want string) bool {
	info, err := c.stat(string(name))
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		c.bad(p, "%s: %v", quote(string(name)), err)
		return false
	}
	if !ok(info) {
		c.bad(p, "%s is not %s", quote(string(name)), want)
		return false
	}
	return true
}

// fileSize reports an error if n, the configured maximum size of a file that the guest fills, is
// too small.
func (c *checker) fileSize(p path, n Size) {
	if n < minFileSize {
		c.bad(p, "%s is too small: at least %s", n, Size(minFileSize))
	}
}

func isRegular(info fs.FileInfo) bool { return info.Mode().IsRegular() }

func isDisk(info fs.FileInfo) bool {
	return info.Mode().IsRegular() || info.Mode().Type() == fs.ModeDevice
}

func (c *checker) queueSize(p path, n int) {
	if n < minQueueSize || n > maxQueueSize || n&(n-1) != 0 {
		c.bad(p, "%d is not a power of two from %d to %d", n, minQueueSize, maxQueueSize)
	}
}

func (c *checker) atMost(p path, n, most int) {
	if n > most {
		c.add(c.at(p.index(most)), "%s: %d entries are too many: at most %d", p, n, most)
	}
}

func (c *checker) id(seen map[Name]int, id Name, i int, p path) {
	if first, twice := taken(seen, id, i); twice {
		c.bad(p.key("id"), "%q is already the id of %s", id, p.parent().index(first))
	}
}

// taken records that entry i has the value k. If an earlier entry already has that value, taken
// records nothing and returns the index of the earlier entry and true.
func taken[K comparable](seen map[K]int, k K, i int) (first int, twice bool) {
	if first, twice = seen[k]; !twice {
		seen[k] = i
	}
	return first, twice
}

// later returns whichever place comes later in the file or on the command line.
func later(a, b place) place {
	if a.nth > b.nth || a.nth == b.nth && a.off > b.off {
		return a
	}
	return b
}
