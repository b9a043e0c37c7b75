fn main() {
    magpie::executor::shim::main_if_shim();
}
