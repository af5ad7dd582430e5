import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.Signature;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Encrypts and decrypts a message (AES), and now and then signs it and verifies that (RSA). Compared are the plain text,
 * its digest, and that a changed message does not pass.
 *
 * Arguments besides the harness's: kb=16 in a message, sign=20 (operations between two signatures).
 */
final class Crypto implements Harness.Task {
  private final Harness harness;
  private final byte[] key = new byte[16];
  private final int bytes;
  private final long sign;
  private final KeyPair pair;

  public static void main(String[] arguments) {
    Harness.run("Crypto", arguments, Crypto::new);
  }

  Crypto(int thread, Options options, Harness harness) throws GeneralSecurityException {
    this.harness = harness;
    bytes = (int) options.number("kb", 16) << 10;
    sign = options.number("sign", 20);
    Arrays.fill(key, (byte) (thread + 1));
    KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
    generator.initialize(1024);
    pair = generator.generateKeyPair();
  }

  @Override
  public void operation(long number) throws GeneralSecurityException {
    byte[] message = new byte[bytes];
    for (int i = 0; i < bytes; i++) message[i] = (byte) (i * 7 + number);
    byte[] digest = MessageDigest.getInstance("SHA-256").digest(message);
    harness.pulse();
    byte[] secret = crypt(Cipher.ENCRYPT_MODE, message);
    if (Arrays.equals(secret, message)) throw new Harness.Wrong("nothing was encrypted");
    harness.pulse();
    byte[] plain = crypt(Cipher.DECRYPT_MODE, secret);
    boolean same = Arrays.equals(plain, message)
        && Arrays.equals(MessageDigest.getInstance("SHA-256").digest(plain), digest);
    if (!same) throw new Harness.Wrong("message " + number + " came back changed");
    if (number % sign == 0) checkSignature(message);
  }

  private byte[] crypt(int mode, byte[] text) throws GeneralSecurityException {
    Cipher cipher = Cipher.getInstance("AES/CBC/PKCS5Padding");
    cipher.init(mode, new SecretKeySpec(key, "AES"), new IvParameterSpec(new byte[16]));
    return cipher.doFinal(text);
  }

  private void checkSignature(byte[] message) throws GeneralSecurityException {
    Signature signature = Signature.getInstance("SHA256withRSA");
    signature.initSign(pair.getPrivate());
    signature.update(message);
    byte[] signed = signature.sign();
    harness.pulse();
    if (!verifies(message, signed)) throw new Harness.Wrong("a signature does not verify");
    message[message.length / 2] ^= 1;
    if (verifies(message, signed)) throw new Harness.Wrong("a changed message verifies");
    harness.pulse();
  }

  private boolean verifies(byte[] message, byte[] signed) throws GeneralSecurityException {
    Signature signature = Signature.getInstance("SHA256withRSA");
    signature.initVerify(pair.getPublic());
    signature.update(message);
    return signature.verify(signed);
  }
}
