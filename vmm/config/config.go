package config

import (
	"fmt"
	"strings"
	"time"
)

// Config is one virtual machine, resolved: paths absolute, defaults filled in, everything checked that can be checked
// without touching the host. Make one with [Load], [Parse] or [Resolve].
type Config struct {
	Name    Name    `toml:"name"`
	Image   Image   `toml:"image,omitempty"` // empty: none
	Machine Machine `toml:"machine"`
	Boot    Boot    `toml:"boot"`
	Console Console `toml:"console"`
	Net     []Net   `toml:"net,omitempty"`
	Disk    []Disk  `toml:"disk,omitempty"`
	SCSI    SCSI    `toml:"scsi"`
	Workers Workers `toml:"workers"`

	Limits     Limits     `toml:"limits,omitempty"`
	Rlimits    Rlimits    `toml:"rlimits,omitempty"`
	Namespaces Namespaces `toml:"namespaces,omitempty"`
}

// Machine is the machine's size and how it ends.
type Machine struct {
	VCPUs           int      `toml:"vcpus"`            // 1 to 64
	Memory          Size     `toml:"memory"`           // guest RAM in bytes: 64M to 1T, a multiple of 4096
	ShutdownTimeout Duration `toml:"shutdown_timeout"` // from the power button to the guest's end by force; 0 to 1 h
	PCIPorts        bool     `toml:"pci_ports"`        // PCI configuration space at ports 0xcf8 and 0xcfc, beside ECAM
	Notify          Notify   `toml:"notify"`           // where drivers write that there is work
}

// Boot is what the guest starts from.
type Boot struct {
	Kernel  Kernel  `toml:"kernel,omitempty"`
	Initrd  Path    `toml:"initrd,omitempty"`  // empty: minivmm's own with a kernel of the store, none with one that is a file
	Cmdline Cmdline `toml:"cmdline,omitempty"` // added after minivmm's own words

	// Protocol is how the kernel is entered. KASLR lets a bzImage unpack itself, which is when it randomises its address.
	Protocol BootProtocol `toml:"protocol"`
	KASLR    bool         `toml:"kaslr"`
}

// Console is where the guest's first serial port goes.
type Console struct {
	Mode ConsoleMode `toml:"mode"`
	Path Path        `toml:"path,omitempty"` // set exactly when Mode is ConsoleFile
	Size Size        `toml:"size,omitzero"`  // bytes: where the file becomes PATH.1 and a new one begins; 0: at its default
}

// Net is one network device.
type Net struct {
	ID        Name       `toml:"id"` // unique among Net
	Backend   NetBackend `toml:"backend"`
	Tap       IfName     `toml:"tap,omitempty"`       // an existing tap; empty: one is made and removed with the machine
	MAC       MAC        `toml:"mac"`                 // the guest's address; unique among Net
	MTU       int        `toml:"mtu,omitzero"`        // for the guest: 68 to 65535; 0: that of its tap
	Address   CIDR       `toml:"address,omitempty"`   // the host's side of a tap that is made; unset: none
	Bridge    IfName     `toml:"bridge,omitempty"`    // an existing bridge that a made tap joins; empty: none
	Ports     []Port     `toml:"ports,omitempty"`     // of the host that lead to the guest, with NetUser
	Queues    Queues     `toml:"queues"`              // pairs of them
	QueueSize int        `toml:"queue_size"`          // entries of each ring: a power of two, 32 to 1024
	Affinity  CPUSet     `toml:"affinity,omitempty"`  // of its workers; empty: as Workers says
	BusyPoll  Duration   `toml:"busy_poll,omitempty"` // how long a worker looks for work before it sleeps; 0 to 1 s

	// With NetUser.
	Network  Name          `toml:"network,omitempty"`  // that the machines of one user share; Isolated; empty: none
	Allow    []Destination `toml:"allow,omitempty"`    // empty: all that is not refused
	Deny     []Destination `toml:"deny,omitempty"`     // beats Allow
	DNS      DNS           `toml:"dns,omitempty"`      // which names are resolved; empty: DNSAuto
	Pcap     Path          `toml:"pcap,omitempty"`     // a file for what the guest sends and sees; empty: none
	PcapSize Size          `toml:"pcap_size,omitzero"` // bytes: where the capture ends; 0: at its default
}

// Disk is one disk: a logical unit of the machine's SCSI controller. The first is the guest's sda.
type Disk struct {
	ID        Name        `toml:"id"`   // unique among Disk
	Path      Path        `toml:"path"` // a regular file or a block device; unique among Disk
	Backend   DiskBackend `toml:"backend"`
	ReadOnly  bool        `toml:"readonly"`
	Serial    Serial      `toml:"serial"` // unique among Disk, its hexadecimal digits too
	Cache     Cache       `toml:"cache"`
	BlockSize int         `toml:"block_size"` // bytes: 512 or 4096
}

// SCSI is the SCSI controller that all disks share.
type SCSI struct {
	Queues    Queues `toml:"queues"`             // request queues
	QueueSize int    `toml:"queue_size"`         // entries of each ring: a power of two, 32 to 1024
	Affinity  CPUSet `toml:"affinity,omitempty"` // of its workers; empty: as Workers says
}

// Limits of the schema; docs/configuration.md names them too.
const (
	maxVCPUs     = 64
	minMemory    = 64 << 20
	maxMemory    = 1 << 40
	pageSize     = 4096
	maxShutdown  = time.Hour
	maxNets      = 16   // one PCI slot each, of 31
	maxPorts     = 1024 // of the host, each of a range counted
	maxDisks     = 64   // logical units of one target
	minMTU       = 68   // RFC 791; virtio 1.2 §5.1.4
	maxMTU       = 65535
	minQueueSize = 32
	maxQueueSize = 1024
	maxQueues    = 64 // below vhost_scsi.max_io_vqs' default of 128
)

// The defaults of each table. Those that depend on the name or on the place in a list are in derive.go.

func (c *Config) setDefaults() {
	c.Machine = Machine{VCPUs: 1, Memory: 256 << 20, ShutdownTimeout: Duration{10 * time.Second}, Notify: NotifyAuto}
	c.Boot = Boot{Protocol: ProtocolAuto}
	c.Console = Console{Mode: ConsoleStdio}
	c.SCSI = SCSI{Queues: 1, QueueSize: 128}
	c.Workers.setDefaults()
}

func (n *Net) setDefaults() {
	*n = Net{Backend: NetAuto, Queues: 1, QueueSize: 256}
}

func (d *Disk) setDefaults() {
	*d = Disk{Backend: DiskAuto, Cache: CacheWriteback, BlockSize: 512}
}

// defaulter is a table of a list, which is filled in before its keys are read.
type defaulter interface{ setDefaults() }

// A Path names a file. In a Config it is absolute or empty.
type Path string

// A Kernel is an absolute path, "store:NAME" for one that minivmm keeps (minivmm kernel list), or empty for the default one of those.
type Kernel string

const storePrefix = "store:"

// Stored is the name of a kernel that minivmm keeps; "" is the default one. ok is false for a path.
func (k Kernel) Stored() (name string, ok bool) {
	name, ok = strings.CutPrefix(string(k), storePrefix)
	return name, ok || k == ""
}

// An Image is an OCI image whose file tree is the guest's root: an absolute path of a layout or archive, "oci:PATH[:TAG]" with an absolute PATH,
// or a name at a registry.
type Image string

// ConsoleMode says where the guest's console goes.
type ConsoleMode string

const (
	ConsoleStdio ConsoleMode = "stdio" // the terminal, or whatever stdin and stdout are
	ConsoleNull  ConsoleMode = "null"  // nowhere
	ConsoleFile  ConsoleMode = "file"  // appended to Console.Path, of Console.Size; no input
)

// UnmarshalText accepts the names of the constants.
func (m *ConsoleMode) UnmarshalText(b []byte) error {
	return oneOf(m, b, ConsoleStdio, ConsoleNull, ConsoleFile)
}

// BootProtocol says how the kernel is entered.
type BootProtocol string

const (
	ProtocolAuto    BootProtocol = "auto"    // linux64 where the image has it, else pvh
	ProtocolLinux64 BootProtocol = "linux64" // at startup_64, with boot_params
	ProtocolPVH     BootProtocol = "pvh"     // at the PVH note's address, with hvm_start_info
)

// UnmarshalText accepts the names of the constants.
func (p *BootProtocol) UnmarshalText(b []byte) error {
	return oneOf(p, b, ProtocolAuto, ProtocolLinux64, ProtocolPVH)
}

// Notify says where a driver writes that there is work for a device.
type Notify string

const (
	NotifyAuto   Notify = "auto"   // what costs less on this host
	NotifyPorts  Notify = "ports"  // an I/O port, or memory for a driver that uses none
	NotifyMemory Notify = "memory" // memory
)

// UnmarshalText accepts the names of the constants.
func (n *Notify) UnmarshalText(b []byte) error {
	return oneOf(n, b, NotifyAuto, NotifyPorts, NotifyMemory)
}

// NetBackend says who moves a network device's packets.
type NetBackend string

const (
	NetAuto  NetBackend = "auto"  // the best that the host has
	NetVhost NetBackend = "vhost" // /dev/vhost-net, or an error
	NetUser  NetBackend = "user"  // a network in this process
)

// UnmarshalText accepts the names of the constants.
func (n *NetBackend) UnmarshalText(b []byte) error { return oneOf(n, b, NetAuto, NetVhost, NetUser) }

// DNS says which names the gateway resolves for the guest. Those in Net.Deny it never does.
type DNS string

const (
	DNSAuto DNS = "auto" // those in Net.Allow; without any there, all names if the guest may go anywhere
	DNSOn   DNS = "on"   // all
	DNSOff  DNS = "off"  // none
)

// UnmarshalText accepts the names of the constants.
func (d *DNS) UnmarshalText(b []byte) error { return oneOf(d, b, DNSAuto, DNSOn, DNSOff) }

// DiskBackend says who serves a disk's requests.
type DiskBackend string

const (
	DiskAuto      DiskBackend = "auto"       // the best that the host has
	DiskVhostSCSI DiskBackend = "vhost-scsi" // /dev/vhost-scsi, or an error
	DiskInProcess DiskBackend = "inprocess"  // a SCSI target in minivmm; needs no rights but the disk's
)

// UnmarshalText accepts the names of the constants.
func (d *DiskBackend) UnmarshalText(b []byte) error {
	return oneOf(d, b, DiskAuto, DiskVhostSCSI, DiskInProcess)
}

// DiskBackend is the one backend of all disks, which share a controller: the one that is named, or DiskAuto.
func (c *Config) DiskBackend() DiskBackend {
	for _, d := range c.Disk {
		if d.Backend != DiskAuto {
			return d.Backend
		}
	}
	return DiskAuto
}

// Cache says when a completed write is durable.
type Cache string

const (
	CacheWriteback    Cache = "writeback"    // when the guest has flushed
	CacheWritethrough Cache = "writethrough" // when it completes
)

// UnmarshalText accepts the names of the constants.
func (c *Cache) UnmarshalText(b []byte) error { return oneOf(c, b, CacheWriteback, CacheWritethrough) }

// oneOf sets *v to the choice that b spells.
func oneOf[T ~string](v *T, b []byte, choices ...T) error {
	words := make([]string, len(choices))
	for i, c := range choices {
		if string(c) == string(b) {
			*v = c
			return nil
		}
		words[i] = string(c)
	}
	return fmt.Errorf("%s is none of %s%s", quote(string(b)), list(words), DidYouMean(string(b), words))
}
