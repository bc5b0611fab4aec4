/* nosync: makes flushing to disk free of charge, for every case alike
 * (preloaded by the runner). Some tools flush at the end and others do not; on a
 * shared disk that flush is noise, and whoever is careful would be punished.
 */
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
int syncfs(int fd) { (void)fd; return 0; }
int sync_file_range(int fd, long off, long n, unsigned flags) { (void)fd; (void)off; (void)n; (void)flags; return 0; }
