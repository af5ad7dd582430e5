import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import javax.xml.transform.Templates;
import javax.xml.transform.TransformerException;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.stream.StreamResult;
import javax.xml.transform.stream.StreamSource;

/**
 * A style sheet turns orders (XML) into a page with sums, by Xalan and Xerces where they are on the class path, else by
 * the JDK's own. Sums and order of the result are compared with those of the orders.
 *
 * Arguments besides the harness's: orders=40 in a document.
 */
final class Xalan implements Harness.Task {
  private static final String SHEET =
      "<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'>"
          + "<xsl:output method='text'/>"
          + "<xsl:template match='/orders'>"
          + "<xsl:for-each select='order'><xsl:sort select='@price' data-type='number'/>"
          + "<xsl:value-of select='@price'/>:<xsl:value-of select='count(item)'/>:"
          + "<xsl:value-of select='sum(item/@count)'/>;</xsl:for-each>"
          + "total <xsl:value-of select='sum(order/item/@count)'/>"
          + "</xsl:template></xsl:stylesheet>";

  private final Harness harness;
  private final int orders;
  private final Templates templates;

  public static void main(String[] arguments) {
    Harness.run("Xalan", arguments, Xalan::new);
  }

  Xalan(int thread, Options options, Harness harness) throws TransformerException {
    this.harness = harness;
    orders = (int) options.number("orders", 40);
    templates = factory().newTemplates(new StreamSource(new StringReader(SHEET)));
  }

  private static TransformerFactory factory() {
    try {
      Class.forName("org.apache.xalan.processor.TransformerFactoryImpl");
      return TransformerFactory.newInstance("org.apache.xalan.processor.TransformerFactoryImpl", null);
    } catch (ClassNotFoundException absent) {
      return TransformerFactory.newInstance();
    }
  }

  @Override
  public void operation(long number) throws IOException, TransformerException {
    StringBuilder document = new StringBuilder("<orders>");
    StringBuilder expected = new StringBuilder();
    long total = 0;
    for (int i = 0; i < orders; i++) {
      // Ascending by order, written in descending order: the sheet has to sort.
      long price = number % 1000 * 1000 + orders - i;
      document.append("<order price='").append(price).append("'>");
      int items = 1 + (int) ((number + i) % 7);
      long sum = 0;
      for (int item = 0; item < items; item++) {
        long count = (number * 31 + i * 7 + item) % 100;
        document.append("<item count='").append(count).append("'>thing ").append(item).append("</item>");
        sum += count;
      }
      document.append("</order>");
      expected.insert(0, price + ":" + items + ":" + sum + ";");
      total += sum;
    }
    expected.append("total ").append(total);
    harness.pulse();
    StringWriter found = new StringWriter() {
      @Override
      public void write(char[] buffer, int from, int length) {
        harness.pulse();
        super.write(buffer, from, length);
      }
    };
    templates.newTransformer().transform(
        new StreamSource(new StringReader(document.append("</orders>").toString())), new StreamResult(found));
    if (!found.toString().equals(expected.toString())) throw new Harness.Wrong("transformed to " + found);
  }
}
